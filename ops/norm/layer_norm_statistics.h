// What layer_norm keeps of each row for backward, the same on both devices.
//
// The mean of a row far from zero is known only to within a rounding error of that size, which would spoil x - mean. So
// the mean is kept as two numbers: `center`, its rounded value, and `rest`, the mean of x - center.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/device/host_device.h"

namespace vitrine::layer_norm_parts {

enum Statistic { center, rest, rstd, statistic_count };  // rows of the tensor of statistics, (3, rows)

template <class C>
struct RowStatistics {
  C center, rest, rstd;
  VT_HD C normalize(C x) const { return ((x - center) - rest) * rstd; }
};

/// Statistics from the sums of (x - middle) and (x - middle)^2 over a row of D elements.
template <class C>
VT_HD RowStatistics<C> row_statistics(C middle, C sum, C sum_of_squares, C D, C epsilon) {
  const C correction = sum / D;
  C variance = sum_of_squares / D - correction * correction;
  if (variance < 0) variance = 0;  // by rounding; NaN stays
  return {middle, correction, 1 / std::sqrt(variance + epsilon)};
}

template <class C>
VT_HD RowStatistics<C> read_statistics(const C* statistics, std::int64_t row, std::int64_t rows) {
  return {statistics[center * rows + row], statistics[rest * rows + row], statistics[rstd * rows + row]};
}

template <class C>
VT_HD void write_statistics(const RowStatistics<C>& s, C* statistics, std::int64_t row, std::int64_t rows) {
  statistics[center * rows + row] = s.center;
  statistics[rest * rows + row] = s.rest;
  statistics[rstd * rows + row] = s.rstd;
}

/// Operands of the forward pass over `rows` rows of D elements: y = normalised (x + branch), or of x where branch is null.
template <class T, class C>
struct Forward {
  const T *x, *branch;
  T* sum;  // x + branch; null where there is no branch
  const C *weight, *bias;
  T* y;
  C* statistics;
  std::int64_t rows, D;
  C epsilon;
};

/// Operands of the backward pass. dx may be null; `add` adds to what is in it. `partial` is (chunks, 2, D): for every
/// chunk of rows the sums of dy n and dy, for dweight and dbias.
template <class T, class C>
struct Backward {
  const T* x;
  const C* weight;
  const T* dy;
  const C* statistics;
  T* dx;
  bool add;
  C* partial;
  std::int64_t rows, D;
};

/// Rows per chunk on the CPU, where a chunk is a task: about 2^14 elements.
inline std::int64_t rows_per_chunk(std::int64_t D) { return std::clamp<std::int64_t>((1 << 14) / D, 1, 256); }

/// Rows per chunk on a GPU, where a chunk is a block: about as many chunks as run at once, which leave little to add up. The wider
/// a row, the more registers a block has; the numbers are for 132 multiprocessors, but the same on every GPU, as are the sums.
inline std::int64_t rows_per_chunk_cuda(std::int64_t rows, std::int64_t D) {
  const std::int64_t packs = (D + 255) / 256;  // of 16 bytes of bf16 for each lane of a warp
  const std::int64_t chunks = packs <= 1 ? 768 : packs == 2 ? 512 : packs == 3 ? 384 : 256;
  return std::max(rows_per_chunk(D), (rows + chunks - 1) / chunks);
}

}  // namespace vitrine::layer_norm_parts
