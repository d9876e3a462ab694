// Rows in the registers of a warp, and the prefetch of the next ones. What bounds a kernel that
// does little with each element is how many bytes are on their way from memory at any moment; so
// each row is asked for while the one before it is computed.
#pragma once

#include "ops/drivers/tensor_core.h"
#include "ops/drivers/warp.h"
#include "tensor/device/packs.h"

#if VT_CUDA
namespace vitrine {

/// `lanes` lanes of a warp share a row, so that the warp holds 32 / lanes rows at once. Lane l of
/// them has the packs l, l + lanes, ... of the row, `packs` of them at most.
template <class T, int lanes_, int packs_>
struct RowLayout {
  using Element = T;
  static constexpr int lanes = lanes_, packs = packs_, width = pack_width<T>;
  static constexpr int rows_per_warp = warp_threads / lanes, rows_per_block = warps_per_block * rows_per_warp;
};

/// The lane's part of a row, to compute with.
template <class Layout, class C>
using Values = C[Layout::packs][Layout::width];

template <class Layout>
__device__ int first_column(int p) {
  return (p * Layout::lanes + static_cast<int>(threadIdx.x) % Layout::lanes) * Layout::width;
}

/// Calls body(p, column) for the lane's packs that lie within a row of D elements.
template <class Layout, class Body>
__device__ void for_each_pack(std::int64_t D, const Body& body) {
#pragma unroll
  for (int p = 0; p < Layout::packs; ++p) {
    if (first_column<Layout>(p) < D) body(p, first_column<Layout>(p));
  }
}

/// The sum over the lanes that share a row.
template <class Layout, class C>
__device__ C sum_of_row(C value) {
  return warp_reduce<Layout::lanes>(value, [](C a, C b) { return a + b; });
}

/// The rows of `tensors` tensors on their way into shared memory, where they take no registers, in
/// two stages: one is read while the other fills. A lane reads only the packs that it has asked for
/// itself, so no barrier is needed.
template <class Layout, int tensors>
class PrefetchedRows {
 public:
  static constexpr int stages = Layout::packs <= 6 ? 2 : 1;  // two of wider rows are too large for some GPUs
  static constexpr std::size_t bytes =
      sizeof(uint4) * stages * tensors * Layout::packs * warps_per_block * warp_threads;

  __device__ explicit PrefetchedRows(void* shared)
      : first_(static_cast<uint4*>(shared) + threadIdx.y * warp_threads + threadIdx.x) {}

  /// Asks for the row of D elements at `row`. Zeros come behind its end, and where it does
  /// not exist.
  template <class T>
  __device__ void prefetch(int stage, int tensor, const T* row, std::int64_t D, bool exists) const {
#pragma unroll
    for (int p = 0; p < Layout::packs; ++p) {
      const int column = first_column<Layout>(p);
      cp_async_16(pack(stage, tensor, p), row + column, exists && column < D);
    }
  }

  template <class C>
  __device__ void read(int stage, int tensor, int p, C (&to)[Layout::width]) const {
    load_pack(reinterpret_cast<const typename Layout::Element*>(pack(stage, tensor, p)), to);
  }

  /// Calls prefetch(stage, row), and once that has arrived compute(stage, row, what prefetch
  /// returned), for the rows first, first + step, ... below `end`. `first` is the row of the warp's
  /// first lanes; the other lanes have the rows behind it. All lanes come along past the end,
  /// because they meet in sums.
  template <class Prefetch, class Body>
  __device__ void for_each_row(std::int64_t first, std::int64_t end, std::int64_t step, const Prefetch& prefetch,
                               const Body& compute) const {
    const std::int64_t own = threadIdx.x / Layout::lanes;
    int stage = 0;
    auto coming = prefetch(stage, first + own);
    for (std::int64_t row = first; row < end; row += step) {
      const int next_stage = (stage + 1) % stages;
      const auto arrived = coming;
      cp_async_wait();
      if (stages > 1) coming = prefetch(next_stage, row + step + own);
      compute(stage, row + own, arrived);
      if (stages == 1) coming = prefetch(next_stage, row + step + own);
      stage = next_stage;
    }
    cp_async_wait();
  }

 private:
  __device__ uint4* pack(int stage, int tensor, int p) const {
    return first_ + ((stage * tensors + tensor) * Layout::packs + p) * warps_per_block * warp_threads;
  }

  uint4* first_;  // the lane's first pack; its others follow one block's packs apart
};

}  // namespace vitrine
#endif
