// Attention on the CPU and its gradients, in every dtype, against the plain loops of
// ops/attention/reference.h; and the composition against the same loops, so that the two
// definitions agree.
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <utility>

#include "tests/ops/attention_checks.h"

namespace vitrine {
namespace {

constexpr DType dtypes[] = {DType::f64, DType::f32, DType::bf16};

Tensors operands(const Size& size, const std::optional<Tensor>& bias = std::nullopt) {
  Tensors inputs{test_values(size.q(), 1), test_values(size.k(), 2), test_values(size.k(), 3)};
  if (bias) inputs.push_back(*bias);
  return inputs;
}

/// y, dq, dk, dv and dbias of the kernels in every dtype, and of the composition in f64.
void expect_like_reference(const Size& size, const std::optional<Tensor>& bias = std::nullopt) {
  const Oracle oracle = [&](const Tensors& in, const Tensor& dy) {
    return reference_results(in, dy, 1 / std::sqrt(static_cast<double>(size.D)));
  };
  const Tensors inputs = operands(size, bias);
  const std::string what = size.text() + (bias ? ", bias " + to_string(bias->shape()) : "");
  for (const DType dtype : dtypes) expect_results(call_attention, oracle, inputs, size.q(), dtype, cpu, what);
  expect_results(compose_attention, oracle, inputs, size.q(), DType::f64, cpu, what + ", composition");
}

TEST(AttentionReference, SelfAttention) {
  for (const int D : {1, 16, 21}) {
    for (const int N : {1, 2, 9, 49}) expect_like_reference({2, 3, N, N, D});
  }
}

TEST(AttentionReference, CrossAttention) {
  for (const int D : {5, 32}) {
    for (const auto& [N, M] : {std::pair{1, 7}, {7, 1}, {5, 17}, {17, 5}}) expect_like_reference({2, 2, N, M, D});
  }
  expect_like_reference({1, 2, 130, 33, 8});  // two blocks of queries
}

TEST(AttentionReference, BiasesBroadcastOverEveryDimension) {
  const Size size{4, 2, 6, 10, 8};
  for (const Shape& shape :
       {Shape{4, 2, 6, 10}, {1, 2, 6, 10}, {2, 6, 10}, {4, 1, 6, 10}, {4, 2, 1, 10}, {6, 10}, {4, 1, 1, 10}, {10}}) {
    expect_like_reference(size, test_values(shape, 4));
  }
}

TEST(AttentionReference, WindowsTakeTheirBiasesInTurn) {
  expect_like_reference({6, 2, 16, 16, 8}, test_values({3, 2, 16, 16}, 4));
  expect_like_reference({8, 3, 9, 9, 32}, test_values({2, 1, 9, 9}, 4));
  expect_like_reference({70, 1, 4, 4, 8},
                        test_values({2, 1, 4, 4}, 4));  // several partial sums, of several samples each
}

TEST(AttentionReference, AScaleOfItsOwn) {
  const Call call = [](const Tensors& in) { return attention(in[0], in[1], in[2], in[3], 0.3); };
  const Oracle oracle = [](const Tensors& in, const Tensor& dy) { return reference_results(in, dy, 0.3); };
  const Size size{1, 2, 5, 6, 8};
  for (const DType dtype : dtypes) {
    expect_results(call, oracle, operands(size, test_values({5, 6}, 4)), size.q(), dtype, cpu, "scale 0.3");
  }
}

TEST(AttentionReference, AFullyMaskedRowIsZeroWithGradientZero) {
  const Size size{2, 2, 4, 5, 8};
  Tensor mask = test_values({2, 1, 4, 5}, 4);  // hides all keys from query 2, and key 3 from every query
  for (std::int64_t row = 0; row < 8; ++row) {
    for (std::int64_t m = 0; m < 5; ++m) {
      if (row % 4 == 2 || m == 3) mask.data<double>()[row * 5 + m] = -INFINITY;
    }
  }
  expect_like_reference(size, mask);
  const Tensor dy = test_values(size.q(), 5);
  for (const DType dtype : dtypes) {
    Tensors inputs = operands(size, mask);
    for (Tensor& input : inputs) input = cast_data(input, dtype);
    const Tensors kernels = value_and_gradients(call_attention, inputs, cast_data(dy, dtype));
    const Tensors loops = reference_results(operands(size, mask), dy, 1 / std::sqrt(8.0));
    for (const Tensors& results : {kernels, loops}) {
      const Tensor &y = results[0], &dq = results[1], &dk = results[2], &dv = results[3], &dbias = results[4];
      for (const Tensor& hidden : {slice(y, 2, 2, 3), slice(dq, 2, 2, 3), slice(dk, 2, 3, 4), slice(dv, 2, 3, 4),
                                   slice(dbias, 2, 2, 3), slice(dbias, 3, 3, 4)}) {
        for (const double value : cast_data(hidden, DType::f64).to_vector<double>()) EXPECT_EQ(value, 0.0);
      }
    }
  }
}

}  // namespace
}  // namespace vitrine
