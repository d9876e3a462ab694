// Attention on CUDA against the CPU in f64: every kernel, the sizes at which their tiles end, every
// kind of bias, masks, views.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "tests/ops/attention_checks.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"

#if VT_CUDA
namespace vitrine {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

using AttentionCuda = CudaTest;

void expect_on_cuda(const Size& size, DType dtype, const std::optional<Shape>& bias_shape = std::nullopt) {
  expect_attention(size, dtype, cuda(), bias_shape);
}

constexpr DType dtypes[] = {DType::f32, DType::f64, DType::bf16};

// ---- Sizes ----

TEST_F(AttentionCuda, LengthsAtTheEdgesOfTiles) {
  const std::pair<int, int> lengths[] = {{1, 1}, {5, 17}, {17, 5}, {49, 49}, {65, 65}, {1, 65}, {64, 1}, {32, 48}};
  for (const DType dtype : dtypes) {
    for (const int D : {8, 32, 64, 80}) {
      for (const auto& [N, M] : lengths) expect_on_cuda({1, 2, N, M, D}, dtype);
    }
  }
}

TEST_F(AttentionCuda, TheTokensOfAnImage) {
  expect_on_cuda({1, 1, 197, 197, 64}, DType::f32);
  for (const int D : {32, 64, 80}) expect_on_cuda({1, 1, 197, 197, D}, DType::bf16);
  expect_on_cuda({2, 1, 257, 5, 32}, DType::bf16);
  expect_on_cuda({1, 2, 5, 256, 64}, DType::bf16);
}

// On both sides of what decides between the kernels: 64 tokens for that of windows, 208 keys for
// the gradient in one kernel.
TEST_F(AttentionCuda, WhereTheKernelsChange) {
  for (const auto& [N, M] : {std::pair{64, 64}, {65, 64}, {64, 65}}) {
    expect_on_cuda({2, 1, N, M, 32}, DType::bf16, Shape{N, M});
    expect_on_cuda({2, 1, N, M, 32}, DType::bf16);
  }
  for (const int D : {32, 64}) {
    expect_on_cuda({1, 1, 70, 208, D}, DType::bf16);
    expect_on_cuda({1, 1, 70, 209, D}, DType::bf16);
  }
}

TEST_F(AttentionCuda, MoreRowsThanSharedMemoryHolds) {
  expect_on_cuda({1, 2, 20, 257, 64}, DType::bf16);
  expect_on_cuda({1, 2, 330, 20, 32}, DType::bf16);
  expect_on_cuda({1, 1, 300, 321, 80}, DType::bf16);
  expect_on_cuda({1, 1, 20, 300, 32}, DType::bf16, Shape{1, 20, 300});
}

TEST_F(AttentionCuda, WideHeads) {
  for (const DType dtype : dtypes) {
    for (const int D : {1, 65, 128, 200, 256}) expect_on_cuda({1, 1, 19, 35, D}, dtype);
  }
  const auto wide = [] {
    attention(zeros({1, 1, 2, 257}, DType::f32, cuda()), zeros({1, 1, 2, 257}, DType::f32, cuda()),
              zeros({1, 1, 2, 257}, DType::f32, cuda()));
  };
  EXPECT_EQ(error_of(wide), "attention: q is (1, 1, 2, 257), expected heads of at most 256 numbers on cuda:0");
}

TEST_F(AttentionCuda, NothingToAttendTo) {
  const Tensors none =
      value_and_gradients(call_attention,
                          {ones({1, 2, 3, 64}, DType::bf16, cuda()), ones({1, 2, 0, 64}, DType::bf16, cuda()),
                           ones({1, 2, 0, 64}, DType::bf16, cuda())},
                          ones({1, 2, 3, 64}, DType::bf16, cuda()));
  EXPECT_EQ(sum(abs(cast(none[0], DType::f32))).item(), 0);
  EXPECT_EQ(sum(abs(cast(none[1], DType::f32))).item(), 0);
  for (const Shape& shape : {Shape{0, 2, 3, 32}, Shape{2, 2, 0, 32}}) {
    const Tensor x = zeros(shape, DType::f32, cuda());
    EXPECT_EQ(value_and_gradients(call_attention, {x, x, x}, x)[1].shape(), shape);
  }
}

// ---- Bias and masks ----

TEST_F(AttentionCuda, BiasInEveryShape) {
  const Size size{2, 2, 33, 35, 32};
  for (const DType dtype : dtypes) {
    for (int dims = 0; dims < 16; ++dims) {  // a bit for every dimension that is broadcast
      const Shape bias{dims & 1 ? 1 : size.B, dims & 2 ? 1 : size.H, dims & 4 ? 1 : size.N, dims & 8 ? 1 : size.M};
      // What is the same for all keys changes nothing: dbias is 0, and what the rounding of y
      // leaves of many sums.
      if (dtype != DType::bf16 || bias[3] != 1) expect_on_cuda(size, dtype, bias);
    }
    expect_on_cuda(size, dtype, Shape{size.N, size.M});
    expect_on_cuda(size, dtype, Shape{size.M});
  }
}

// Shifted windows: the windows of an image differ in their masks, and images follow each other.
TEST_F(AttentionCuda, BiasesInTurn) {
  for (const DType dtype : dtypes) {
    expect_on_cuda({6, 2, 16, 16, 32}, dtype, Shape{2, 2, 16, 16});
    expect_on_cuda({6, 2, 17, 5, 32}, dtype, Shape{3, 1, 17, 5});
  }
  expect_on_cuda({12, 3, 49, 49, 32}, DType::bf16, Shape{4, 3, 49, 49});
}

TEST_F(AttentionCuda, BiasIsAddedUpOverALongBatch) {
  expect_on_cuda({70, 2, 5, 6, 32}, DType::bf16, Shape{2, 5, 6});
  expect_on_cuda({70, 2, 5, 6, 8}, DType::f32, Shape{2, 5, 6});
}

TEST_F(AttentionCuda, MaskedKeysAndRows) {
  const Size size{1, 2, 21, 70, 32};
  Tensor mask = zeros({size.N, size.M}, DType::f64);
  for (std::int64_t n = 0; n < size.N; ++n) {
    for (std::int64_t m = 0; m < size.M; ++m) {
      const bool is_masked = n == 0 || n == 20 || (n == 3 && m < 66) || (n == 7 && m >= 2) || m == 69;
      if (is_masked) mask.data<double>()[n * size.M + m] = -infinity;
    }
  }
  const Tensors inputs{test_values(size.q(), 1), test_values(size.k(), 2), test_values(size.k(), 3)};
  const Call call = [&](const Tensors& in) {
    return attention(in[0], in[1], in[2], to_device(cast_data(mask, in[0].dtype()), in[0].device()));
  };
  for (const DType dtype : dtypes) {
    expect_agreement(call, inputs, size.q(), dtype, cuda(), "mask");
    const auto there = [&](const Tensor& x) { return to_device(cast_data(x, dtype), cuda()); };
    const Tensors actual =
        value_and_gradients(call, {there(inputs[0]), there(inputs[1]), there(inputs[2])}, there(ones(size.q())));
    for (const Tensor& x : {actual[0], actual[1]}) {  // y and dq of the first query
      const Tensor row = to_device(cast(slice(x, 2, 0, 1), DType::f64), cpu);
      for (const double value : row.to_vector<double>()) EXPECT_EQ(value, 0.0);
    }
  }
}

TEST_F(AttentionCuda, LargeScoresDoNotOverflow) {
  for (const DType dtype : dtypes) {
    const Tensors inputs{test_values({1, 1, 20, 32}, 1, -40, 40), test_values({1, 1, 70, 32}, 2, -40, 40),
                         test_values({1, 1, 70, 32}, 3)};
    Tensors there;
    for (const Tensor& input : inputs) there.push_back(to_device(cast_data(input, dtype), cuda()));
    const Tensors results = value_and_gradients(call_attention, there, there[0]);
    for (const Tensor& x : results) EXPECT_TRUE(std::isfinite(sum(abs(cast(x, DType::f64))).item())) << name_of(dtype);
  }
}

// Rows of a tile that are no keys have the score 0, which is far above those of the keys here.
TEST_F(AttentionCuda, ScoresFarBelowZeroLeaveTheRestOfATileAlone) {
  for (const DType dtype : dtypes) {
    for (const int D : {32, 64}) {
      const auto there = [&](double value, std::int64_t rows) {
        return to_device(full({1, 1, rows, D}, value, dtype), cuda());
      };
      const Tensors results =
          value_and_gradients(call_attention, {there(12, 3), there(-12, 5), there(1, 5)}, there(1, 3));
      for (const Tensor& x : results) {
        EXPECT_TRUE(std::isfinite(sum(abs(cast(x, DType::f64))).item())) << name_of(dtype) << " " << D;
      }
    }
  }
}

TEST_F(AttentionCuda, NanSpreads) {
  for (const DType dtype : dtypes) {
    Tensor q = cast_data(test_values({1, 1, 3, 32}, 1), DType::f64);
    q.data<double>()[40] = std::numeric_limits<double>::quiet_NaN();  // in the second query
    const Tensor there = to_device(cast_data(q, dtype), cuda());
    const Tensor k = to_device(cast_data(test_values({1, 1, 70, 32}, 2), dtype), cuda());
    const auto sums = to_device(cast(sum(attention(there, k, k), {3}), DType::f64), cpu).to_vector<double>();
    EXPECT_TRUE(std::isfinite(sums[0]) && std::isnan(sums[1]) && std::isfinite(sums[2])) << name_of(dtype);
  }
}

// ---- Views ----

TEST_F(AttentionCuda, Strides) {
  const Call heads_last = [](const Tensors& in) {  // (B, N, H, D), as a layer has them
    const auto view = [](const Tensor& x) { return permute(x, {0, 2, 1, 3}); };
    return permute(attention(view(in[0]), view(in[1]), view(in[2])), {0, 2, 1, 3});
  };
  const Call odd_rows = [](const Tensors& in) {  // rows that do not start at a multiple of 16 bytes
    const auto view = [](const Tensor& x) { return slice(x, 3, 3, 35); };
    return attention(view(in[0]), view(in[1]), view(in[2]));
  };
  const Call stepped = [](const Tensors& in) {  // queries that all are one, keys across rows, every second value
    return attention(expand(in[0], {2, 1, 9, 32}), transpose(in[1]), slice(in[2], 2, 0, 34, 2));
  };
  for (const DType dtype : dtypes) {
    expect_agreement(heads_last,
                     {test_values({2, 33, 2, 32}, 1), test_values({2, 17, 2, 32}, 2), test_values({2, 17, 2, 32}, 3)},
                     {2, 33, 2, 32}, dtype, cuda(), "heads last");
    expect_agreement(odd_rows,
                     {test_values({2, 1, 33, 37}, 1), test_values({2, 1, 17, 37}, 2), test_values({2, 1, 17, 37}, 3)},
                     {2, 1, 33, 32}, dtype, cuda(), "odd rows");
    expect_agreement(stepped,
                     {test_values({2, 1, 1, 32}, 1), test_values({2, 1, 32, 17}, 2), test_values({2, 1, 34, 32}, 3)},
                     {2, 1, 9, 32}, dtype, cuda(), "stepped");
  }
}

TEST_F(AttentionCuda, SelfAttention) {
  const Call call = [](const Tensors& in) {
    return self_attention(in[0], 3, in.size() > 1 ? OptionalTensor(in[1]) : std::nullopt);
  };
  for (const DType dtype : dtypes) {
    for (const int D : {8, 64}) {
      const Shape y{2, 50, 3 * D};
      expect_agreement(call, {test_values({2, 50, 9 * D}, 1)}, y, dtype, cuda(), fmt::format("{}", D));
      expect_agreement(call, {test_values({2, 50, 9 * D}, 1), test_values({3, 50, 50}, 2)}, y, dtype, cuda(),
                       fmt::format("{} with bias", D));
    }
  }
}

// ---- The rest ----

void expect_the_same_bits_twice(const Size& size, DType dtype, const Tensors& bias) {
  const auto there = [&](const Shape& shape, std::uint64_t stream) {
    return to_device(cast_data(test_values(shape, stream), dtype), cuda());
  };
  Tensors inputs{there(size.q(), 1), there(size.k(), 2), there(size.k(), 3)};
  for (const Tensor& x : bias) inputs.push_back(to_device(cast_data(x, dtype), cuda()));
  const Tensors one = value_and_gradients(call_attention, inputs, there(size.q(), 5));
  const Tensors two = value_and_gradients(call_attention, inputs, there(size.q(), 5));
  for (std::size_t i = 0; i < one.size(); ++i) {
    const Tensor a = to_device(contiguous_data(one[i]), cpu), b = to_device(contiguous_data(two[i]), cpu);
    EXPECT_EQ(std::memcmp(a.raw_data(), b.raw_data(), static_cast<std::size_t>(a.numel()) * size_of(dtype)), 0);
  }
}

TEST_F(AttentionCuda, TheSameBitsTwice) {
  for (const DType dtype : dtypes) expect_the_same_bits_twice({3, 2, 70, 33, 64}, dtype, {test_values({2, 70, 33}, 4)});
  expect_the_same_bits_twice({3, 2, 70, 33, 64}, DType::bf16, {});
  expect_the_same_bits_twice({4, 2, 49, 49, 32}, DType::bf16, {test_values({2, 2, 49, 49}, 4)});
}

TEST_F(AttentionCuda, OperandsMustShareADevice) {
  const Tensor here = zeros({1, 1, 2, 8}), there = to_device(here, cuda());
  EXPECT_EQ(error_of([&] { attention(there, there, here); }),
            "attention: q is on cuda:0, k on cuda:0, v on cpu and bias absent, expected one device");
  EXPECT_EQ(error_of([&] {
              attention(here, here, here, zeros({2, 2}, DType::f32, cuda()));
            }),
            "attention: q is on cpu, k on cpu, v on cpu and bias on cuda:0, expected one device");
}

}  // namespace
}  // namespace vitrine
#endif
