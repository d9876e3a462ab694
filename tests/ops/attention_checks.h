// What the tests of attention have in common: one call and its gradients on a device, against the
// CPU in f64.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>
#include <string>

#include "op_table/attention_problem.h"
#include "op_table/op_table.h"
#include "ops/composed.h"
#include "ops/ops.h"
#include "tests/support/compare.h"
#include "tests/support/expectations.h"

namespace vitrine {

/// How far from the exact result of the rounded inputs, relative to the largest entry: rounding of
/// the result, and in bf16 of the weights, which are operands of a product.
inline double bound_of(DType dtype) {
  if (dtype == DType::f64) return 1e-12;
  return dtype == DType::f32 ? 1e-5 : 0x1p-6;
}

/// Largest error relative to the largest entry that is expected, or to 1 where that is smaller:
/// some gradients, such as dq with a single key, are sums of larger numbers that cancel.
inline double error_of_result(const Tensor& got, const Tensor& expected) {
  double largest = 1;
  for (const double value : expected.to_vector<double>()) largest = std::max(largest, std::abs(value));
  const Tensor scale = full({1}, largest, DType::f64);
  const auto with_scale = [&](const Tensor& x) { return concat({flatten(cast_data(x, DType::f64)), scale}, 0); };
  return relative_error(with_scale(got), with_scale(expected));
}

/// Gives the exact output and gradients from inputs and dy in f64.
using Oracle = std::function<Tensors(const Tensors& inputs, const Tensor& dy)>;

/// Runs the call on `device` in `dtype`, and compares with the oracle on the inputs as `dtype` has
/// rounded them.
inline void expect_results(const Call& call, const Oracle& oracle, const Tensors& inputs, const Shape& output,
                           DType dtype, Device device, const std::string& what) {
  Tensors there, exact;
  for (const Tensor& input : inputs) {
    const Tensor rounded = cast_data(input, dtype);
    there.push_back(to_device(rounded, device));
    exact.push_back(cast_data(rounded, DType::f64));
  }
  const Tensor dy = cast_data(test_values(output, 9, -1, 1), dtype);
  const Tensors actual = value_and_gradients(call, there, to_device(dy, device));
  const Tensors expected = oracle(exact, cast_data(dy, DType::f64));
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

/// The oracle is `exact_call` on the CPU in f64.
inline void expect_agreement(const Call& call, const Call& exact_call, const Tensors& inputs, const Shape& output,
                             DType dtype, Device device, const std::string& what) {
  const Oracle oracle = [&](const Tensors& exact, const Tensor& dy) {
    return value_and_gradients(exact_call, exact, dy);
  };
  expect_results(call, oracle, inputs, output, dtype, device, what);
}

/// The same call there and in f64.
inline void expect_agreement(const Call& call, const Tensors& inputs, const Shape& output, DType dtype, Device device,
                             const std::string& what) {
  expect_agreement(call, call, inputs, output, dtype, device, what);
}

inline Tensor call_attention(const Tensors& in) {
  return attention(in[0], in[1], in[2], in.size() > 3 ? OptionalTensor(in[3]) : std::nullopt);
}

/// The composition from primitive ops, which shares no code with the op.
inline Tensor compose_attention(const Tensors& in) {
  return attention_composed(in[0], in[1], in[2], in.size() > 3 ? OptionalTensor(in[3]) : std::nullopt,
                            1 / std::sqrt(static_cast<double>(in[0].size(3))));
}

/// The plain loops of ops/attention/reference.h: y, dq, dk, dv and, where there is a bias, dbias.
inline Tensors reference_results(const Tensors& in, const Tensor& dy, double scale) {
  const attention_reference::Problem x = attention_problem(in, scale);
  const attention_reference::Forward forward = attention_reference::forward(x);
  const attention_reference::Backward backward = attention_reference::backward(x, forward.p, dy.to_vector<double>());
  Tensors results{from_vector(forward.y, in[0].shape()), from_vector(backward.dq, in[0].shape()),
                  from_vector(backward.dk, in[1].shape()), from_vector(backward.dv, in[2].shape())};
  if (in.size() > 3) results.push_back(from_vector(backward.dbias, in[3].shape()));
  return results;
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
