// What the tests of attention have in common: one call and its gradients on a device, against the CPU in f64.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>
#include <string>

#include "op_table/op_table.h"
#include "ops/composed.h"
#include "ops/ops.h"
#include "tests/support/expectations.h"

namespace vitrine {

/// How far from the exact result of the rounded inputs, relative to the largest entry: rounding of the result, and in
/// bf16 of the weights, which are operands of a product.
inline double bound_of(DType dtype) {
  if (dtype == DType::f64) return 1e-12;
  return dtype == DType::f32 ? 1e-5 : 0x1p-6;
}

/// Largest error relative to the largest entry that is expected, or to 1 where that is smaller: some gradients, such as
/// dq with a single key, are sums of larger numbers that cancel.
inline double error_of_result(const Tensor& got, const Tensor& expected) {
  double largest = 1;
  for (const double value : expected.to_vector<double>()) largest = std::max(largest, std::abs(value));
  const Tensor scale = full({1}, largest, DType::f64);
  const auto with_scale = [&](const Tensor& x) { return concat({flatten(cast_data(x, DType::f64)), scale}, 0); };
  return relative_error(with_scale(got), with_scale(expected));
}

using Call = std::function<Tensor(const Tensors&)>;

/// The output of the call and the gradients of its inputs.
inline Tensors run(const Call& call, const Tensors& inputs, const Tensor& dy) {
  Tape tape;
  Tensors leaves;
  for (const Tensor& input : inputs) leaves.push_back(tape.watch(input));
  const Tensor y = call(leaves);
  Tensors results{y};
  const Gradients grads = tape.backward(y, dy);
  for (const Tensor& leaf : leaves) results.push_back(grads[leaf]);
  return results;
}

/// Runs the call on `device` in `dtype`, and `exact_call` on the CPU in f64 on the inputs that `dtype` has rounded.
inline void expect_agreement(const Call& call, const Call& exact_call, const Tensors& inputs, const Shape& output,
                             DType dtype, Device device, const std::string& what) {
  Tensors there, exact;
  for (const Tensor& input : inputs) {
    const Tensor rounded = cast_data(input, dtype);
    there.push_back(to_device(rounded, device));
    exact.push_back(cast_data(rounded, DType::f64));
  }
  const Tensor dy = cast_data(test_values(output, 9, -1, 1), dtype);
  const Tensors actual = run(call, there, to_device(dy, device));
  const Tensors expected = run(exact_call, exact, cast_data(dy, DType::f64));
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(actual[i].device(), device);
    ASSERT_EQ(actual[i].dtype(), dtype);
    const double error = error_of_result(to_device(actual[i], cpu), expected[i]);
    EXPECT_TRUE(error <= bound_of(dtype))
        << what << ", " << name_of(dtype) << ": " << (i == 0 ? "y" : "gradient " + std::to_string(i - 1))
        << " is off by " << error;
  }
}

/// The same call there and in f64.
inline void expect_agreement(const Call& call, const Tensors& inputs, const Shape& output, DType dtype, Device device,
                             const std::string& what) {
  expect_agreement(call, call, inputs, output, dtype, device, what);
}

inline Tensor call_attention(const Tensors& in) {
  return attention(in[0], in[1], in[2], in.size() > 3 ? OptionalTensor(in[3]) : std::nullopt);
}

/// The same from its parts, which shares no code with the op.
inline Tensor compose_attention(const Tensors& in) {
  return attention_composed(in[0], in[1], in[2], in.size() > 3 ? OptionalTensor(in[3]) : std::nullopt,
                            1 / std::sqrt(static_cast<double>(in[0].size(3))));
}

/// Of one call: N queries, M keys.
struct Size {
  std::int64_t B, H, N, M, D;
  Shape q() const { return {B, H, N, D}; }
  Shape k() const { return {B, H, M, D}; }
  std::string text() const { return fmt::format("q {}, k {}", to_string(q()), to_string(k())); }
};

/// bias_shape empty: no bias.
inline void expect_attention(const Size& size, DType dtype, Device device,
                             const std::optional<Shape>& bias_shape = std::nullopt) {
  Tensors inputs{test_values(size.q(), 1), test_values(size.k(), 2), test_values(size.k(), 3)};
  std::string what = size.text();
  if (bias_shape) {
    inputs.push_back(test_values(*bias_shape, 4));
    what += ", bias " + to_string(*bias_shape);
  }
  expect_agreement(call_attention, compose_attention, inputs, size.q(), dtype, device, what);
}

}  // namespace vitrine
