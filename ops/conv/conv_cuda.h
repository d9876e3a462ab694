// Convolution on the GPU: two kernels turn images into columns and back, and one batched product (a
// batch of groups) does the rest. In both kernels one thread owns each element that is written, and
// adds in a fixed order.
#pragma once

#include <algorithm>

#include "ops/conv/conv_shape.h"
#include "ops/product/gemm_cuda.h"
#include "tensor/device/launch.h"
#include "tensor/tensor.h"

#if VT_CUDA
namespace vitrine::conv {

/// matrix (channels kh kw, images, patches) = the patches of `images` images. blockIdx.y walks the
/// rows of the matrix.
template <class T>
__global__ void im2col_kernel(PatchGrid grid, const T* x, std::int64_t images, T* matrix) {
  // A row of the matrix has fewer than 2^31 elements (see images_per_pass), and 32-bit division is
  // much faster.
  const auto length = static_cast<std::uint32_t>(images * grid.patches());
  const auto columns = static_cast<std::uint32_t>(grid.columns), rows = static_cast<std::uint32_t>(grid.rows);
  const std::int64_t depth = grid.channels * grid.taps();
  for (std::int64_t k = blockIdx.y; k < depth; k += gridDim.y) {
    const std::int64_t channel = k / grid.taps(), i = k % grid.taps() / grid.kernel_width, j = k % grid.kernel_width;
    for (std::uint32_t n = blockIdx.x * blockDim.x + threadIdx.x; n < length; n += gridDim.x * blockDim.x) {
      const std::int64_t column = n % columns, row = n / columns % rows, image = n / columns / rows;
      const std::int64_t y = row * grid.stride + i - grid.padding, at = column * grid.stride + j - grid.padding;
      const bool inside = y >= 0 && y < grid.height && at >= 0 && at < grid.width;
      matrix[k * length + n] =
          inside ? x[((image * grid.channels + channel) * grid.height + y) * grid.width + at] : static_cast<T>(0.0f);
    }
  }
}

/// x = bias (channels, or null) + for each pixel the sum of the columns that im2col reads it into.
/// blockIdx.y walks the planes.
template <class T, class C = Compute<T>>
__global__ void col2im_kernel(PatchGrid grid, const T* matrix, const T* bias, std::int64_t images, T* x) {
  const std::int64_t row_length = images * grid.patches();
  const auto pixels = static_cast<std::uint32_t>(grid.pixels()), width = static_cast<std::uint32_t>(grid.width);
  for (std::int64_t plane = blockIdx.y; plane < images * grid.channels; plane += gridDim.y) {
    const std::int64_t channel = plane % grid.channels, image = plane / grid.channels;
    for (std::uint32_t p = blockIdx.x * blockDim.x + threadIdx.x; p < pixels; p += gridDim.x * blockDim.x) {
      const int y = static_cast<int>(p / width + grid.padding), at = static_cast<int>(p % width + grid.padding);
      const int stride = static_cast<int>(grid.stride);
      C sum = bias ? static_cast<C>(bias[channel]) : C(0);
      for (int i = 0; i < grid.kernel_height; ++i) {
        if (y < i || (y - i) % stride != 0 || (y - i) / stride >= grid.rows) continue;
        for (int j = 0; j < grid.kernel_width; ++j) {
          if (at < j || (at - j) % stride != 0 || (at - j) / stride >= grid.columns) continue;
          const std::int64_t k = channel * grid.taps() + i * grid.kernel_width + j;
          const std::int64_t patch = (y - i) / stride * grid.columns + (at - j) / stride;
          sum += static_cast<C>(matrix[k * row_length + image * grid.patches() + patch]);
        }
      }
      x[plane * pixels + p] = static_cast<T>(sum);
    }
  }
}

/// Launches a kernel whose blockIdx.y walks `rows` and whose threads walk a row of `length`: 256
/// threads to a block, fewer where a row is shorter, as with planes of 7 x 7.
template <class... Parameters, class... Arguments>
void launch_on_rows(void (*kernel)(Parameters...), std::int64_t rows, std::int64_t length, Arguments... arguments) {
  const std::int64_t threads = std::min<std::int64_t>(256, (length + 31) / 32 * 32);
  const dim3 grid(grid_for(length, threads).x, static_cast<unsigned>(std::min<std::int64_t>(rows, 65535)));
  launch(kernel, grid, dim3(static_cast<unsigned>(threads)), 0, current_stream(), arguments...);
}

template <class T>
Tensor im2col_cuda(const PatchGrid& grid, Device device, const T* x, std::int64_t images) {
  const std::int64_t depth = grid.channels * grid.taps(), length = images * grid.patches();
  Tensor matrix = empty({depth, length}, dtype_of<T>(), device);
  launch_on_rows(im2col_kernel<T>, depth, length, grid, x, images, matrix.data<T>());
  return matrix;
}

template <class T>
void col2im_cuda(const PatchGrid& grid, const Tensor& matrix, const T* bias, std::int64_t images, T* x) {
  launch_on_rows(col2im_kernel<T>, images * grid.channels, grid.pixels(), grid, matrix.data<T>(), bias, images, x);
}

/// Images whose columns are made at a time: about 2^28 elements, which bounds the memory that the
/// columns take.
inline std::int64_t images_per_pass(const ConvShape& s) {
  const std::int64_t columns_of_image = s.C * s.kernel_height * s.kernel_width * s.out_height * s.out_width;
  return std::clamp<std::int64_t>((std::int64_t{1} << 28) / columns_of_image, 1, s.B);
}

/// c[b] = a b[b] for pointwise filters a (m, k) and images b (k, pixels): nothing needs to be laid
/// out anew.
template <class T>
void pointwise_cuda(const ConvShape& s, std::int64_t m, std::int64_t k, MatrixView<void> a, const T* in, T* out,
                    double beta) {
  const std::int64_t pixels = s.H * s.W;
  gemm_cuda({.m = m,
             .n = pixels,
             .k = k,
             .batch = s.B,
             .dtype = dtype_of<T>(),
             .a = a,
             .b = {in, pixels},
             .c = out,
             .c_leading = pixels,
             .b_stride = k * pixels,
             .c_stride = m * pixels,
             .beta = beta});
}

/// Calls body(first image, number of images) for each pass.
template <class Body>
void for_each_pass(const ConvShape& s, const Body& body) {
  const std::int64_t images = images_per_pass(s);
  for (std::int64_t first = 0; first < s.B; first += images) body(first, std::min(images, s.B - first));
}

/// y = weight x + bias; where the convolution is a matrix product, y has been filled with bias, or
/// bias is null.
template <class T>
void forward_cuda(const ConvShape& s, Device device, const T* x, const T* weight, const T* bias, T* y) {
  const PatchGrid in = s.input(), out = s.output();
  const std::int64_t K = in.depth(), filters = s.group_filters();
  if (s.is_matrix_product()) {
    return pointwise_cuda<T>(s, filters, K, {weight, K}, x, y, bias ? 1 : 0);
  }
  for_each_pass(s, [&](std::int64_t first, std::int64_t images) {
    const std::int64_t N = images * out.patches();
    const Tensor columns = im2col_cuda(in, device, x + first * s.C * in.pixels(), images);
    Tensor result = empty({s.filters, N}, dtype_of<T>(), device);
    gemm_cuda({.m = filters,
               .n = N,
               .k = K,
               .batch = s.groups,
               .dtype = dtype_of<T>(),
               .a = {weight, K},
               .b = {columns.data<T>(), N},
               .c = result.data<T>(),
               .c_leading = N,
               .a_stride = filters * K,
               .b_stride = K * N,
               .c_stride = filters * N});
    col2im_cuda(out, result, bias, images, y + first * s.filters * out.pixels());
  });
}

/// dx = weight^T dy
template <class T>
void input_gradient_cuda(const ConvShape& s, Device device, const T* dy, const T* weight, T* dx) {
  const PatchGrid in = s.input(), out = s.output();
  const std::int64_t K = in.depth(), filters = s.group_filters();
  if (s.is_matrix_product()) {
    return pointwise_cuda<T>(s, K, filters, {weight, K, true}, dy, dx, 0);
  }
  for_each_pass(s, [&](std::int64_t first, std::int64_t images) {
    const std::int64_t N = images * out.patches();
    const Tensor gradient = im2col_cuda(out, device, dy + first * s.filters * out.pixels(), images);
    Tensor columns = empty({s.groups * K, N}, dtype_of<T>(), device);
    gemm_cuda({.m = K,
               .n = N,
               .k = filters,
               .batch = s.groups,
               .dtype = dtype_of<T>(),
               .a = {weight, K, true},
               .b = {gradient.data<T>(), N},
               .c = columns.data<T>(),
               .c_leading = N,
               .a_stride = filters * K,
               .b_stride = filters * N,
               .c_stride = K * N});
    col2im_cuda<T>(in, columns, nullptr, images, dx + first * s.C * in.pixels());
  });
}

/// partial (passes, O, C/g, kh, kw): dweight = dy x^T of the images of each pass
template <class T>
void weight_gradient_cuda(const ConvShape& s, Device device, const T* dy, const T* x, T* partial) {
  const PatchGrid in = s.input(), out = s.output();
  const std::int64_t K = in.depth(), filters = s.group_filters();
  for_each_pass(s, [&](std::int64_t first, std::int64_t images) {
    const std::int64_t N = images * out.patches();
    const Tensor columns = im2col_cuda(in, device, x + first * s.C * in.pixels(), images);
    const Tensor gradient = im2col_cuda(out, device, dy + first * s.filters * out.pixels(), images);
    gemm_cuda({.m = filters,
               .n = K,
               .k = N,
               .batch = s.groups,
               .dtype = dtype_of<T>(),
               .a = {gradient.data<T>(), N},
               .b = {columns.data<T>(), N, true},
               .c = partial,
               .c_leading = K,
               .a_stride = filters * N,
               .b_stride = K * N,
               .c_stride = filters * K});
    partial += s.weight_count();
  });
}

}  // namespace vitrine::conv
#endif
