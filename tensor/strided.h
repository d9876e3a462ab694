// Strided loops: several operands of one shape, merged into as few dims as their strides allow,
// walked row by row.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/device/host_device.h"
#include "tensor/shape.h"

namespace vitrine {

/// N operands that are read and written together. After `collapse`, dims have size > 1, and
/// neighbours that every operand walks as one are one: a contiguous operation ends up with a single
/// dim. A plain struct, so kernels take it by value.
template <int N>
struct StridedLoop {
  int dims = 0;
  std::int64_t size[max_dims] = {};
  std::int64_t stride[N][max_dims] = {};

  VT_HD std::int64_t row_length() const { return dims ? size[dims - 1] : 1; }
  VT_HD std::int64_t row_stride(int operand) const { return dims ? stride[operand][dims - 1] : 0; }

  /// Offsets of all operands at the start of row `row` (all dims but the last).
  VT_HD void row_offsets(std::int64_t row, std::int64_t (&offset)[N]) const {
    for (int n = 0; n < N; ++n) offset[n] = 0;
    for (int d = dims - 2; d >= 0; --d) {
      const std::int64_t index = row % size[d];
      row /= size[d];
      for (int n = 0; n < N; ++n) offset[n] += index * stride[n][d];
    }
  }

  /// Offsets of all operands at element i of `count`, in row-major order. For kernels: 64-bit
  /// division, which takes a GPU some hundred instructions, is left to tensors that need it.
  VT_HD void element_offsets(std::int64_t i, std::int64_t count, std::int64_t (&offset)[N]) const {
    if (count <= std::int64_t{0xffffffff}) {
      find_offsets(static_cast<std::uint32_t>(i), offset);
    } else {
      find_offsets(i, offset);
    }
  }

  VT_HD std::int64_t row_count() const {
    std::int64_t count = 1;
    for (int d = 0; d + 1 < dims; ++d) count *= size[d];
    return count;
  }

  /// True if every operand is one dense run: then element i of each lies at data + i.
  bool is_contiguous() const {
    if (dims == 0) return true;
    bool dense = dims == 1;
    for (int n = 0; n < N; ++n) dense = dense && stride[n][0] == 1;
    return dense;
  }

 private:
  template <class Index>
  VT_HD void find_offsets(Index i, std::int64_t (&offset)[N]) const {
    for (int n = 0; n < N; ++n) offset[n] = 0;
    for (int d = dims - 1; d >= 0; --d) {
      const Index index = i % static_cast<Index>(size[d]);
      i /= static_cast<Index>(size[d]);
      for (int n = 0; n < N; ++n) offset[n] += static_cast<std::int64_t>(index) * stride[n][d];
    }
  }
};

/// Builds the loop over `shape`; strides[n] must have as many entries as the shape (see
/// broadcast_strides).
template <int N>
StridedLoop<N> collapse(const Shape& shape, const std::array<Strides, N>& strides) {
  StridedLoop<N> loop;
  for (int d = 0; d < shape.size(); ++d) {
    if (shape[d] == 1) continue;
    bool merges = loop.dims > 0;
    for (int n = 0; n < N && merges; ++n) {
      merges = loop.stride[n][loop.dims - 1] == strides[static_cast<std::size_t>(n)][d] * shape[d];
    }
    const int target = merges ? loop.dims - 1 : loop.dims++;
    loop.size[target] = merges ? loop.size[target] * shape[d] : shape[d];
    for (int n = 0; n < N; ++n) loop.stride[n][target] = strides[static_cast<std::size_t>(n)][d];
  }
  return loop;
}

}  // namespace vitrine
