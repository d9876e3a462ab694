// The wrappers of ops/drivers/tensor_core.h do what the layouts in its head say: products,
// fragments from shared memory, late copies.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "ops/drivers/tensor_core.h"
#include "ops/drivers/warp.h"
#include "tensor/tensor.h"
#include "tests/support/cuda_test.h"

#if VT_CUDA
namespace vitrine {
namespace {

constexpr int row_stride = 24;  // of 16 numbers in shared memory: 48 bytes, an odd number of 16-byte units

__device__ std::uint32_t pair_of(bfloat16 low, bfloat16 high) {
  return low.bits | static_cast<std::uint32_t>(high.bits) << 16;
}

/// Copies x (16, 16) to shared memory, rows `row_stride` apart; rows from `exists` on become zeros.
__device__ void load_shared(bfloat16* shared, const bfloat16* x, int exists) {
  const int lane = static_cast<int>(threadIdx.x), row = lane / 2, column = lane % 2 * 8;
  cp_async_16(shared + row * row_stride + column, x + row * 16 + column, row < exists);
  cp_async_wait();
  block_barrier();
}

/// c (16, 8) += a (16, 16) b (16, 8), every fragment filled from global memory by the formulas of
/// the header.
__global__ void product_kernel(const bfloat16* a, const bfloat16* b, float* c) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  FragmentA left;
  FragmentB right;
  FragmentC sums;
  for (int i = 0; i < 4; ++i) {
    const bfloat16* x = a + (g + i % 2 * 8) * 16 + i / 2 * 8 + 2 * t;
    left.x[i] = pair_of(x[0], x[1]);
    sums.x[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  }
  for (int i = 0; i < 2; ++i) right.x[i] = pair_of(b[(8 * i + 2 * t) * 8 + g], b[(8 * i + 2 * t + 1) * 8 + g]);
  mma_m16n8k16(sums, left, right);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums.x[i];
}

/// registers (32 lanes, 4) of ldmatrix, transposed or not, for the four 8 x 8 quarters of x (16,
/// 16): matrix i has rows from 8 (i % 2) on and columns from 8 (i / 2) on.
__global__ void ldmatrix_kernel(const bfloat16* x, int exists, bool transposed, std::uint32_t* registers) {
  bfloat16* shared = dynamic_shared<bfloat16>();
  load_shared(shared, x, exists);
  const int lane = static_cast<int>(threadIdx.x);
  const bfloat16* row = shared + lane % 16 * row_stride + lane / 16 * 8;
  std::uint32_t mine[4];
  if (transposed) {
    ldmatrix_x4_trans(mine, row);
  } else {
    ldmatrix_x4(mine, row);
  }
  for (int i = 0; i < 4; ++i) registers[lane * 4 + i] = mine[i];
}

__global__ void pack_kernel(const float* x, std::uint32_t* packed, float* powers) {
  packed[threadIdx.x] = pack_bf16(x[2 * threadIdx.x], x[2 * threadIdx.x + 1]);
  powers[threadIdx.x] = exp2_approx(x[threadIdx.x]);
}

using TensorCore = CudaTest;

std::vector<bfloat16> numbers(std::size_t count, int seed) {
  std::vector<bfloat16> x;
  for (std::size_t i = 0; i < count; ++i)
    x.emplace_back(static_cast<float>((static_cast<int>(i) * 37 + seed) % 61 - 30));
  return x;
}

std::vector<bfloat16> consecutive() {
  std::vector<bfloat16> x;
  for (int i = 0; i < 256; ++i) x.emplace_back(static_cast<float>(i));  // whole numbers up to 256 are exact in bf16
  return x;
}

template <class T>
Tensor on_device(const std::vector<T>& x) {
  return to_device(from_vector(x, {static_cast<std::int64_t>(x.size())}), cuda());
}

TEST_F(TensorCore, ProductAddsToItsSum) {
  const auto a = numbers(16 * 16, 5), b = numbers(16 * 8, 11);
  Tensor c = on_device(std::vector<float>(16 * 8, 0.5f));
  const Tensor a_there = on_device(a), b_there = on_device(b);
  launch(product_kernel, dim3(1), dim3(32), 0, current_stream(), a_there.data<bfloat16>(), b_there.data<bfloat16>(),
         c.data<float>());
  const auto actual = c.to_vector<float>();
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      float expected = 0.5f;  // sums of small whole numbers are exact
      for (std::size_t k = 0; k < 16; ++k) {
        expected += static_cast<float>(a[row * 16 + k]) * static_cast<float>(b[k * 8 + column]);
      }
      EXPECT_EQ(actual[row * 8 + column], expected) << row << ", " << column;
    }
  }
}

std::vector<std::uint32_t> ldmatrix_registers(const std::vector<bfloat16>& x, int exists, bool transposed) {
  const Tensor there = on_device(x);
  Tensor registers = zeros({32 * 4}, DType::i32, cuda());
  launch(ldmatrix_kernel, dim3(1), dim3(32), 16 * row_stride * sizeof(bfloat16), current_stream(),
         there.data<bfloat16>(), exists, transposed, reinterpret_cast<std::uint32_t*>(registers.data<std::int32_t>()));
  std::vector<std::uint32_t> result;
  for (const std::int32_t bits : registers.to_vector<std::int32_t>())
    result.push_back(static_cast<std::uint32_t>(bits));
  return result;
}

TEST_F(TensorCore, LdmatrixGivesEachLaneItsEntries) {
  for (const bool transposed : {false, true}) {
    const auto registers = ldmatrix_registers(consecutive(), 16, transposed);
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
      const std::uint32_t g = lane / 4, t = lane % 4;
      for (std::uint32_t i = 0; i < 4; ++i) {
        const std::uint32_t row = i % 2 * 8, column = i / 2 * 8;  // where matrix i starts
        const auto entry = [&](std::uint32_t r, std::uint32_t c) {
          return bfloat16(static_cast<float>((row + r) * 16 + column + c)).bits;
        };
        const std::uint32_t low = transposed ? entry(2 * t, g) : entry(g, 2 * t);
        const std::uint32_t high = transposed ? entry(2 * t + 1, g) : entry(g, 2 * t + 1);
        EXPECT_EQ(registers[lane * 4 + i], low | high << 16) << "lane " << lane << ", matrix " << i;
      }
    }
  }
}

TEST_F(TensorCore, CopiesOfWhatDoesNotExistAreZeros) {
  const auto registers = ldmatrix_registers(consecutive(), 3, false);
  for (std::size_t lane = 0; lane < 32; ++lane) {
    const bool exists = lane / 4 < 3;
    EXPECT_EQ(registers[lane * 4 + 2] != 0, exists) << "lane " << lane;  // matrix 2 has rows 0 to 7
    EXPECT_EQ(registers[lane * 4 + 3], 0u) << "lane " << lane;
  }
}

TEST_F(TensorCore, PackingRoundsLikeBfloat16) {
  std::vector<float> x;
  for (int i = 0; i < 64; ++i)
    x.push_back(std::ldexp(1.0f + static_cast<float>(i * 5) / 256.0f, i % 9 - 4) * (i % 2 ? 1 : -1));
  x[4] = -INFINITY;
  const Tensor there = on_device(x);
  Tensor packed = zeros({32}, DType::i32, cuda()), powers = zeros({32}, DType::f32, cuda());
  launch(pack_kernel, dim3(1), dim3(32), 0, current_stream(), there.data<float>(),
         reinterpret_cast<std::uint32_t*>(packed.data<std::int32_t>()), powers.data<float>());
  const auto bits = packed.to_vector<std::int32_t>();
  const auto actual = powers.to_vector<float>();
  for (std::size_t i = 0; i < 32; ++i) {
    const std::uint32_t expected = bfloat16(x[2 * i]).bits | static_cast<std::uint32_t>(bfloat16(x[2 * i + 1]).bits)
                                                                 << 16;
    EXPECT_EQ(static_cast<std::uint32_t>(bits[i]), expected) << x[2 * i] << ", " << x[2 * i + 1];
    EXPECT_TRUE(std::abs(actual[i] - std::exp2(x[i])) <= 3e-7f * std::exp2(x[i])) << x[i];
  }
  EXPECT_EQ(actual[4], 0.0f);
}

}  // namespace
}  // namespace vitrine
#endif
