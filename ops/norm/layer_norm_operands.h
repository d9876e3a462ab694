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

/// Rows per chunk on a GPU, where a chunk is a block: about as many chunks as run at once, so that
/// few partial sums are left to add up. The wider a row, the more registers a block has. The counts
/// suit 132 multiprocessors, but are the same on every GPU, and so are the sums.
inline std::int64_t rows_per_chunk_cuda(std::int64_t rows, std::int64_t D) {
  const std::int64_t packs = (D + 255) / 256;  // of 16 bytes of bf16 for each lane of a warp
  const std::int64_t chunks = packs <= 1 ? 768 : packs == 2 ? 512 : packs == 3 ? 384 : 256;
  return std::max(rows_per_chunk(D), (rows + chunks - 1) / chunks);
}

}  // namespace vitrine::layer_norm_passes
