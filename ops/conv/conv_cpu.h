// Convolution on the CPU: blocks of rows of patches, small enough for the second-level cache,
// become columns and go through a matrix product. Blocks and tasks are cut by size alone, so sums
// have one order for any number of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "ops/conv/conv_shape.h"
#include "ops/drivers/lanes.h"
#include "ops/product/gemm.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace vitrine::conv {

/// Rows [begin, end) of patches, counted through all images: row r is row r % grid.rows of image r
/// / grid.rows.
struct RowBlock {
  std::int64_t begin, end;
  std::int64_t count() const { return end - begin; }
};

/// Calls body(row, pixel, first, last) for each (channel, tap) and row of patches: elements [first,
/// last) of `row`, which has grid.columns in the matrix, face pixel[0], pixel[stride], ...; its
/// other elements lie beyond the edge.
template <class T, class Pixel, class Body>
void for_each_patch_row(const PatchGrid& grid, Pixel* images, std::int64_t group, RowBlock block, T* matrix,
                        const Body& body) {
  const std::int64_t leading = block.count() * grid.columns;
  for (std::int64_t k = 0; k < grid.depth(); ++k) {
    const std::int64_t channel = group * grid.group_channels() + k / grid.taps();
    const std::int64_t i = k % grid.taps() / grid.kernel_width, j = k % grid.kernel_width;
    // 0 <= column stride + j - padding < width holds for columns [first, last).
    const auto columns_below = [&](std::int64_t x) {  // number of columns whose pixel lies left of x
      return std::clamp<std::int64_t>((x + grid.padding - j + grid.stride - 1) / grid.stride, 0, grid.columns);
    };
    const std::int64_t first = grid.padding > j ? columns_below(0) : 0;
    const std::int64_t last = grid.width + grid.padding > j ? std::max(first, columns_below(grid.width)) : first;
    for (std::int64_t row = block.begin; row < block.end; ++row) {
      const std::int64_t image = row / grid.rows, y = row % grid.rows * grid.stride + i - grid.padding;
      const bool inside = y >= 0 && y < grid.height;
      Pixel* plane = images + (image * grid.channels + channel) * grid.pixels();
      Pixel* pixel = inside ? plane + y * grid.width + first * grid.stride + j - grid.padding : plane;
      body(matrix + k * leading + (row - block.begin) * grid.columns, pixel, first, inside ? last : first);
    }
  }
}

/// matrix (K, N) = the patches of `block`, N = block.count() grid.columns
template <class T>
void im2col(const PatchGrid& grid, const T* images, std::int64_t group, RowBlock block, T* matrix) {
  for_each_patch_row(grid, images, group, block, matrix,
                     [&](T* row, const T* pixel, std::int64_t first, std::int64_t last) {
                       std::fill(row, row + first, T(0));
                       if (grid.stride == 1) {
                         std::copy(pixel, pixel + (last - first), row + first);
                       } else {
                         for (std::int64_t c = first; c < last; ++c) row[c] = pixel[(c - first) * grid.stride];
                       }
                       std::fill(row + last, row + grid.columns, T(0));
                     });
}

/// images += the columns of `matrix`, each where im2col reads it
template <class T>
void col2im(const PatchGrid& grid, const T* matrix, std::int64_t group, RowBlock block, T* images) {
  for_each_patch_row(grid, images, group, block, matrix,
                     [&](const T* row, T* pixel, std::int64_t first, std::int64_t last) {
                       for (std::int64_t c = first; c < last; ++c) pixel[(c - first) * grid.stride] += row[c];
                     });
}

/// gemm_serial, but for the few rows of depthwise convolution, where a library spends its time on
/// preparations.
template <class T>
void product(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<T> a, MatrixView<T> b, T beta, T* c,
             std::int64_t c_leading) {
  constexpr std::int64_t few = 32;
  const auto left = [&](std::int64_t i, std::int64_t p) {
    return a.data[a.transposed ? p * a.leading + i : i * a.leading + p];
  };
  if (!b.transposed && m * k <= few) {  // rows of c are sums of rows of b
    for (std::int64_t i = 0; i < m; ++i) {
      T* __restrict row = c + i * c_leading;
      if (beta == 0) std::fill(row, row + n, T(0));
      for (std::int64_t p = 0; p < k; ++p) {
        const T factor = left(i, p);
        const T* __restrict other = b.data + p * b.leading;
        for (std::int64_t j = 0; j < n; ++j) row[j] += factor * other[j];
      }
    }
  } else if (b.transposed && !a.transposed && m * n <= few) {  // elements of c are products of rows
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const T *row = a.data + i * a.leading, *other = b.data + j * b.leading;
        const T sum = lane_sum<T>(k, [=](auto p) { return row[p] * other[p]; });
        c[i * c_leading + j] = sum + (beta == 0 ? T(0) : c[i * c_leading + j]);
      }
    }
  } else {
    gemm_serial<T>(m, n, k, a, b, beta, c, c_leading);
  }
}

/// Scratch of one task, kept by each thread from task to task.
template <class T>
T* scratch(std::int64_t count, int which) {
  static thread_local std::vector<T> memory[2];
  auto& block = memory[which];
  if (block.size() < static_cast<std::size_t>(count)) block.resize(static_cast<std::size_t>(count));
  return block.data();
}

/// Rows of patches in a block: columns and results of 2^17 elements, but at least 192 columns, to
/// be worth reading the weight.
inline std::int64_t rows_per_block(const ConvShape& s) {
  const std::int64_t elements_per_column = s.input().depth() + s.group_filters();
  const std::int64_t columns = std::clamp<std::int64_t>((1 << 17) / elements_per_column, 192, 4096);
  return std::max<std::int64_t>(1, columns / s.out_width);
}

/// Images per task where a task owns all that it writes: at least 512 output pixels.
inline std::int64_t images_per_task(const ConvShape& s) {
  return std::clamp<std::int64_t>(512 / s.input().patches(), 1, s.B);
}

/// Calls body(block) for blocks of rows that cover images [begin, end).
template <class Body>
void for_each_block(const ConvShape& s, std::int64_t begin, std::int64_t end, const Body& body) {
  const std::int64_t rows = rows_per_block(s), last = end * s.out_height;
  for (std::int64_t row = begin * s.out_height; row < last; row += rows)
    body(RowBlock{row, std::min(row + rows, last)});
}

/// Pointwise: c[b] = a[g] b[b] for images b whose planes are large enough to be multiplied in
/// place; m outputs from k inputs.
template <class T>
void pointwise_cpu(const ConvShape& s, std::int64_t m, std::int64_t k, const T* weight, bool transposed, const T* in,
                   T beta, T* out) {
  const std::int64_t pixels = s.H * s.W, grain = 4096, blocks = chunk_count(pixels, grain);
  parallel_for(s.B * s.groups * blocks, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t plane = task / blocks, group = plane % s.groups, begin = task % blocks * grain;
    const MatrixView<T> a{weight + group * m * k, transposed ? m : k, transposed};
    product<T>(m, std::min(grain, pixels - begin), k, a, {in + plane * k * pixels + begin, pixels}, beta,
               out + plane * m * pixels + begin, pixels);
  });
}

inline bool multiplies_in_place(const ConvShape& s) { return s.is_pointwise() && s.H * s.W >= 256; }

/// y += weight x, with y filled before (0 or bias)
template <class T>
void forward_cpu(const ConvShape& s, const T* x, const T* weight, T* y) {
  const PatchGrid in = s.input(), out = s.output();
  const std::int64_t K = in.depth(), filters = s.group_filters();
  if (multiplies_in_place(s)) return pointwise_cpu<T>(s, filters, K, weight, false, x, T(1), y);
  const std::int64_t all_rows = s.B * s.out_height, rows = rows_per_block(s), blocks = chunk_count(all_rows, rows);
  parallel_for(s.groups * blocks, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t group = task / blocks, begin = task % blocks * rows;
    const RowBlock block{begin, std::min(begin + rows, all_rows)};
    const std::int64_t N = block.count() * s.out_width;
    T *columns = scratch<T>(K * N, 0), *result = scratch<T>(filters * N, 1);
    im2col(in, x, group, block, columns);
    product<T>(filters, N, K, {weight + group * filters * K, K}, {columns, N}, T(0), result, N);
    col2im(out, result, group, block, y);
  });
}

/// dx += weight^T dy, with dx filled with 0 before
template <class T>
void input_gradient_cpu(const ConvShape& s, const T* dy, const T* weight, T* dx) {
  const PatchGrid in = s.input(), out = s.output();
  const std::int64_t K = in.depth(), filters = s.group_filters();
  if (multiplies_in_place(s)) return pointwise_cpu<T>(s, K, filters, weight, true, dy, T(0), dx);
  const std::int64_t images = images_per_task(s), chunks = chunk_count(s.B, images);
  parallel_for(s.groups * chunks, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t group = task / chunks, first = task % chunks * images;
    for_each_block(s, first, std::min(first + images, s.B), [&](RowBlock block) {
      const std::int64_t N = block.count() * s.out_width;
      T *columns = scratch<T>(K * N, 0), *gradient = scratch<T>(filters * N, 1);
      im2col(out, dy, group, block, gradient);
      product<T>(K, N, filters, {weight + group * filters * K, K, true}, {gradient, N}, T(0), columns, N);
      col2im(in, columns, group, block, dx);
    });
  });
}

/// Images per partial sum of dweight: at most 16 parts, fewer where these would take more than 2^25
/// elements.
inline std::int64_t images_per_part(const ConvShape& s) {
  const std::int64_t parts = std::clamp<std::int64_t>((1 << 25) / s.weight_count(), 1, 16);
  return chunk_count(s.B, parts);
}

/// partial (parts, O, C/g, kh, kw): dweight = dy x^T of the images of each part
template <class T>
void weight_gradient_cpu(const ConvShape& s, const T* dy, const T* x, T* partial) {
  const PatchGrid in = s.input(), out = s.output();
  const std::int64_t K = in.depth(), filters = s.group_filters();
  const std::int64_t images = images_per_part(s), parts = chunk_count(s.B, images);
  parallel_for(parts * s.groups, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t group = task % s.groups, first = task / s.groups * images;
    T* sum = partial + task * filters * K;
    T beta = 0;
    for_each_block(s, first, std::min(first + images, s.B), [&](RowBlock block) {
      const std::int64_t N = block.count() * s.out_width;
      T *columns = scratch<T>(K * N, 0), *gradient = scratch<T>(filters * N, 1);
      im2col(in, x, group, block, columns);
      im2col(out, dy, group, block, gradient);
      product<T>(filters, K, N, {gradient, N}, {columns, N, true}, beta, sum, K);
      beta = 1;
    });
  });
}

}  // namespace vitrine::conv
