// One warp per row: the wrappers that the CUDA kernels of softmax, layer_norm and the losses are
// made of. Only they exchange values between the threads of these kernels.
#pragma once

#include "tensor/device/launch.h"

#if VT_CUDA
namespace vitrine {

inline constexpr int warp_threads = 32;
inline constexpr int warps_per_block = 4;

/// Waits for all threads of the block.
__device__ inline void block_barrier() { __syncthreads(); }

/// `value` of the thread whose lane differs from this one's in the bits of `mask`.
template <class C>
__device__ C shuffle_xor(C value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}

/// Bit l is set where the predicate of lane l holds.
__device__ inline unsigned ballot(bool predicate) { return __ballot_sync(0xFFFFFFFFu, predicate); }

/// Which bit of x is the lowest that is set; x is not 0.
__device__ inline int lowest_bit(unsigned x) { return __ffs(static_cast<int>(x)) - 1; }

/// The values of `lanes` neighbouring lanes combined, of all 32 where nothing else is said; each of
/// them gets the result. `combine` must be commutative.
template <int lanes = warp_threads, class C, class Combine>
__device__ C warp_reduce(C value, const Combine& combine) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  return value;
}

/// term(0) + ... + term(count - 1), lane l taking every 32nd term from l on.
template <class C, class Term>
__device__ C warp_sum(std::int64_t count, const Term& term) {
  C total = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += warp_threads) total += term(i);
  return warp_reduce(total, [](C a, C b) { return a + b; });
}

/// Calls body(i) for all i below count, each in one lane.
template <class Body>
__device__ void warp_for(std::int64_t count, const Body& body) {
  for (std::int64_t i = threadIdx.x; i < count; i += warp_threads) body(i);
}

/// Calls body(row) for all rows, each in one warp.
template <class Body>
__device__ void for_each_row_of_grid(std::int64_t rows, const Body& body) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * warps_per_block;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * warps_per_block + threadIdx.y; row < rows;
       row += step) {
    body(row);
  }
}

/// Launches a kernel whose body is a for_each_row_of_grid over `rows`.
template <class... Parameters, class... Arguments>
void launch_rows(void (*kernel)(Parameters...), std::int64_t rows, Arguments... arguments) {
  if (rows == 0) return;
  launch(kernel, grid_for(rows, warps_per_block), dim3(warp_threads, warps_per_block), 0, current_stream(),
         arguments...);
}

}  // namespace vitrine
#endif
