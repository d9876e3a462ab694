// Sizes of a convolution, and the patches that it reads: what its CPU code and its kernels share.
//
// A convolution is a matrix product per group, weight (O/g, K) times columns (K, N). Each of the N
// columns is the patch under one output pixel, laid out as K = C/g kh kw elements. "im2col" makes
// the columns from images; its adjoint, "col2im", adds the columns of overlapping patches up into
// images. The output's pixels are patches too, of 1 x 1: so the same two functions turn (B, O, H',
// W') into the matrix (O, N) of the product and back.
#pragma once

#include <cstdint>

#include "tensor/device/host_device.h"

namespace vitrine::conv {

/// How patches lie in images (B, channels, height, width): `rows` x `columns` of them in each
/// image, from (-padding, -padding) on, `stride` apart, kernel_height x kernel_width pixels each.
/// Beyond the edge there are zeros.
struct PatchGrid {
  std::int64_t channels, groups, height, width;
  std::int64_t kernel_height, kernel_width, stride, padding;
  std::int64_t rows, columns;

  std::int64_t group_channels() const { return channels / groups; }
  VT_HD std::int64_t taps() const { return kernel_height * kernel_width; }
  std::int64_t depth() const { return group_channels() * taps(); }  // K: elements in a patch of one group
  VT_HD std::int64_t pixels() const { return height * width; }
  VT_HD std::int64_t patches() const { return rows * columns; }  // per image
};

/// Images x (B, C, H, W), filters (O, C/groups, kh, kw), output y (B, O, H', W').
struct ConvShape {
  std::int64_t B, C, H, W;
  std::int64_t filters, kernel_height, kernel_width;
  std::int64_t stride, padding, groups;
  std::int64_t out_height, out_width;

  std::int64_t group_filters() const { return filters / groups; }
  std::int64_t weight_count() const { return filters * input().depth(); }
  /// 1 x 1 without stride: the images are the columns already.
  bool is_pointwise() const { return kernel_height * kernel_width == 1 && stride == 1 && padding == 0; }
  bool is_matrix_product() const { return is_pointwise() && groups == 1; }
  PatchGrid input() const {
    return {C, groups, H, W, kernel_height, kernel_width, stride, padding, out_height, out_width};
  }
  PatchGrid output() const { return {filters, groups, out_height, out_width, 1, 1, 1, 0, out_height, out_width}; }
};

}  // namespace vitrine::conv
