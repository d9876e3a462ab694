// The instructions of tensor cores, and those that feed them, as functions: mma, ldmatrix,
// cp.async, bf16 packing, 2^x.
//
// A matrix of a product is spread over the 32 lanes of a warp, a few entries in each: a fragment.
// All lanes of the warp call mma and ldmatrix together. Lane l has group g = l / 4 and position t =
// l % 4 in it; x[i] are the registers of one lane, and a register holds two bf16, the first in its
// lower half (PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type").
//
//   A, 16 x 16                                  B, 16 x 8                   C, 16 x 8
//            columns                                     column                      columns
//             2t, 2t+1   8+2t, 8+2t+1                      g                          2t    2t+1
//   row g   |   x[0]   |     x[2]    |       rows 2t, 2t+1 |    x[0]       row g   |  x[0] | x[1]
//   row g+8 |   x[1]   |     x[3]    |   rows 8+2t, 8+2t+1 |    x[1]       row g+8 |  x[2] | x[3]
//
// So a C that is rounded to bf16 is half of an A: two of them side by side, 16 x 16, are the left
// operand of the next product.
#pragma once

#include <cstdint>

#include "tensor/device/launch.h"
#include "tensor/dtype.h"

#if VT_CUDA
namespace vitrine {

struct FragmentA {
  std::uint32_t x[4];
};
struct FragmentB {
  std::uint32_t x[2];
};
struct FragmentC {
  float x[4];
};

}  // namespace vitrine

#if defined(__CUDACC__)
namespace vitrine {

/// d += a b, in f32.
__device__ inline void mma_m16n8k16(FragmentC& d, const FragmentA& a, const FragmentB& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d.x[0]), "+f"(d.x[1]), "+f"(d.x[2]), "+f"(d.x[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

/// Four 8 x 8 matrices of bf16 from shared memory. Lane l brings the address of row l % 8 of matrix
/// l / 8, 16 bytes that are aligned to 16; it gets, of matrix i in x[i], the entries (g, 2t) and
/// (g, 2t+1).
__device__ inline void ldmatrix_x4(std::uint32_t (&x)[4], const bfloat16* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address));
}

/// The same with each matrix transposed: the entries (2t, g) and (2t+1, g).
__device__ inline void ldmatrix_x4_trans(std::uint32_t (&x)[4], const bfloat16* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address));
}

/// Starts a copy of 16 bytes, both ends aligned to 16, from global to shared memory, around the
/// registers; zeros arrive where `exists` is false, and `source` is not read. The target may be
/// read only after cp_async_wait and, by other threads than this one, a barrier.
__device__ inline void cp_async_16(void* target, const void* source, bool exists) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(target));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(__cvta_generic_to_global(source)), "r"(exists ? 16 : 0)
               : "memory");
}

/// Waits for all copies that this thread has started. Every thread must have done so before it
/// ends.
__device__ inline void cp_async_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// Two floats as bf16, rounded to nearest even, the first in the lower half.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/// 2^x to within 2 units in the last place, 0 for -infinity.
__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / x to within one unit in the last place.
__device__ inline float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace vitrine
#else
#include <tensor_core.h>  // the same functions on the CPU: host_cuda
#endif
#endif
