// The operands of layer_norm's two passes over rows: what its CPU code and its kernels are given.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/drivers/lanes.h"

namespace vitrine::layer_norm_passes {

/// Forward over `rows` rows of D elements: y = layer_norm(x + residual), or of x where residual is
/// null.
template <class T, class C>
struct Forward {
  const T *x, *residual;   // (rows, D)
  T* sum;                  // (rows, D) = x + residual; null where there is no residual
  const C *weight, *bias;  // (D)
  T* y;                    // (rows, D)
  C* statistics;           // (3, rows)
  std::int64_t rows, D;
  C epsilon;
};

/// Backward over the same rows. `partial` holds, for every chunk of rows, the sums of dy n and of
/// dy: the chunk's part of dweight and of dbias.
template <class T, class C>
struct Backward {
  const T* x;           // (rows, D)
  const C* weight;      // (D)
  const T* dy;          // (rows, D)
  const C* statistics;  // (3, rows)
  T* dx;                // (rows, D), or null where it is not wanted
  bool add;             // dx += instead of dx =
  C* partial;           // (chunks, 2, D)
  std::int64_t rows, D;
};

// ---- How many blocks run at once on a GPU ----

/// The packs of 16 bytes that each lane holds of a row: the fewest lanes, from 4 to 32, that hold
/// it with 3 packs each or fewer share it, so that few of them have nothing to do.
inline std::int64_t packs_per_lane(std::int64_t row_packs) {
  for (std::int64_t lanes = 4; lanes <= 32; lanes *= 2) {
    if (row_packs <= 2 * lanes) return 2;
    if (row_packs <= 3 * lanes) return 3;
  }
  return (row_packs + 31) / 32;
}

namespace resident {

/// Of an H100 or H200. On other GPUs blocks run in more rounds or fewer, with the same results.
inline constexpr std::int64_t multiprocessors = 132;
inline constexpr int threads_per_block = 128;

/// Blocks of a kernel that a multiprocessor is to hold: the more packs in a lane's registers, the
/// fewer.
constexpr int forward_blocks(std::int64_t packs) { return packs <= 3 ? 6 : packs <= 4 ? 4 : 2; }
constexpr int backward_blocks(std::int64_t packs) { return packs <= 2 ? 4 : packs <= 3 ? 3 : 2; }

}  // namespace resident

/// Rows per chunk on a GPU, where a chunk is a block: no more chunks than run at once, so that few
/// partial sums are left to add up. The counts are the same on every GPU, and so are the sums.
template <class T>
std::int64_t rows_per_chunk_cuda(std::int64_t rows, std::int64_t D) {
  const std::int64_t packs = packs_per_lane((D * static_cast<std::int64_t>(sizeof(T)) + 15) / 16);
  const std::int64_t chunks = resident::multiprocessors * resident::backward_blocks(packs);
  return std::max(rows_per_chunk(D), (rows + chunks - 1) / chunks);
}

}  // namespace vitrine::layer_norm_passes
