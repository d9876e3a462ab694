// Attention on the CPU in f32 and in bf16, whose products are the processor's own where it has
// them, against f64: several blocks of queries, the sizes at which vectors end, biases, masks, and
// the same bits for any number of threads.
#include <gtest/gtest.h>

#include <cmath>

#include "op_table/drivers.h"
#include "tensor/parallel.h"
#include "tests/ops/attention_checks.h"

namespace vitrine {
namespace {

constexpr DType dtypes[] = {DType::f32, DType::bf16};

TEST(AttentionCpu, SeveralBlocksOfQueries) {
  for (const DType dtype : dtypes) {
    for (const int D : {1, 8, 40, 64}) {
      for (const auto& [N, M] : {std::pair{1, 1}, {5, 17}, {49, 49}, {130, 33}, {20, 300}, {300, 197}}) {
        expect_attention({2, 2, N, M, D}, dtype, cpu);
      }
    }
  }
}

TEST(AttentionCpu, Biases) {
  for (const DType dtype : dtypes) {
    expect_attention({2, 2, 150, 20, 32}, dtype, cpu, Shape{2, 150, 20});
    expect_attention({6, 2, 49, 49, 32}, dtype, cpu, Shape{3, 1, 49, 49});
    expect_attention({2, 1, 130, 7, 8}, dtype, cpu, Shape{7});
  }
}

TEST(AttentionCpu, SelfAttentionReadsItsPartsInPlace) {
  const Call call = [](const Tensors& in) { return self_attention(in[0], 3); };
  for (const DType dtype : dtypes) {
    expect_agreement(call, {test_values({2, 150, 9 * 32}, 1)}, {2, 150, 3 * 32}, dtype, cpu, "three heads");
  }
}

TEST(AttentionCpu, AFullyMaskedRowIsZeroWithGradientZero) {
  for (const DType dtype : dtypes) {
    Tensor mask = zeros({140, 33});  // hides everything from query 135, in the second block
    for (std::int64_t m = 0; m < 33; ++m) mask.data<float>()[135 * 33 + m] = -INFINITY;
    const auto with_mask = [&](const Tensors& in) {
      return Tensors{in[0], in[1], in[2], cast_data(mask, in[0].dtype())};
    };
    const Call call = [&](const Tensors& in) { return call_attention(with_mask(in)); };
    const Call composition = [&](const Tensors& in) { return compose_attention(with_mask(in)); };
    const Tensors inputs{test_values({1, 1, 140, 8}, 1), test_values({1, 1, 33, 8}, 2), test_values({1, 1, 33, 8}, 3)};
    expect_agreement(call, composition, inputs, {1, 1, 140, 8}, dtype, cpu, "mask");
    Tensors rounded;
    for (const Tensor& input : inputs) rounded.push_back(cast_data(input, dtype));
    const Tensors results = value_and_gradients(call, rounded, cast_data(test_values({1, 1, 140, 8}, 4), dtype));
    for (const Tensor& rows : {results[0], results[1]}) {  // y and dq
      const Tensor masked = cast_data(contiguous_data(slice(rows, 2, 135, 136)), DType::f64);
      EXPECT_EQ(masked.to_vector<double>(), std::vector<double>(8, 0.0));
    }
  }
}

TEST(AttentionCpu, TheSameBitsForAnyNumberOfThreads) {
  const int threads = num_threads();
  for (const DType dtype : dtypes) {
    const auto results = [&](int count) {
      set_num_threads(count);
      const auto values = [&](const Shape& shape, std::uint64_t stream) {
        return cast_data(test_values(shape, stream), dtype);
      };
      const Tensors inputs{values({6, 2, 140, 32}, 1), values({6, 2, 49, 32}, 2), values({6, 2, 49, 32}, 3),
                           values({3, 2, 140, 49}, 4)};
      return value_and_gradients(call_attention, inputs, values({6, 2, 140, 32}, 5));
    };
    const Tensors one = results(1);
    for (const int count : {2, 3}) {
      const Tensors more = results(count);
      for (std::size_t i = 0; i < one.size(); ++i) {
        EXPECT_TRUE(same_bits(one[i], more[i])) << count << " threads, result " << i;
      }
    }
  }
  set_num_threads(threads);
}

}  // namespace
}  // namespace vitrine
