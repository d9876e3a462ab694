// The constructors and forward passes of nn/image_layers.h.
#include "nn/image_layers.h"

#include <algorithm>
#include <cmath>

namespace vitrine {
namespace {

/// Number of pixels that padding "SAME" adds to a side, both ends together.
std::int64_t same_padding(std::int64_t side, std::int64_t kernel, std::int64_t stride) {
  const std::int64_t windows = (side + stride - 1) / stride;
  return std::max<std::int64_t>(0, (windows - 1) * stride + kernel - side);
}

}  // namespace

Parameter he_normal(const Shape& filters, Initializer& init, std::int64_t groups) {
  const auto fan_out = static_cast<double>(filters[0] * filters[2] * filters[3] / groups);
  return init.normal(filters, std::sqrt(2 / fan_out));
}

Conv2d Conv2d::make(std::int64_t in, std::int64_t out, std::int64_t kernel, Initializer& init, Options options) {
  const auto [stride, padding, groups, with_bias] = options;
  VT_CHECK(in > 0 && out > 0 && kernel > 0 && groups > 0 && in % groups == 0 && out % groups == 0,
           "Conv2d: {} -> {} channels with kernel {} in {} groups, expected sizes above 0 and whole groups", in, out,
           kernel, groups);
  VT_CHECK(stride >= 1 && padding >= 0, "Conv2d: stride is {} and padding {}, expected at least 1 and 0", stride,
           padding);
  const double bound = 1 / std::sqrt(static_cast<double>(in / groups * kernel * kernel));
  Conv2d layer{.weight = init.uniform({out, in / groups, kernel, kernel}, bound),
               .bias = std::nullopt,
               .stride = stride,
               .padding = padding,
               .groups = groups};
  if (with_bias) layer.bias = init.uniform({out}, bound);
  return layer;
}

Tensor Conv2d::operator()(const Tensor& x) const {
  return conv2d(x, for_input(weight, x), for_input(bias, x), stride, padding, groups);
}

Tensor pad_same(const Tensor& x, std::int64_t kernel, std::int64_t stride, double value) {
  VT_CHECK(x.dim() == 4 && kernel >= 1 && stride >= 1,
           "pad_same: shape {}, kernel {}, stride {}: expected (B, C, H, W) and numbers above 0", to_string(x.shape()),
           kernel, stride);
  const std::int64_t rows = same_padding(x.size(2), kernel, stride), columns = same_padding(x.size(3), kernel, stride);
  if (rows == 0 && columns == 0) return x;
  return pad(x, {0, 0, rows / 2, columns / 2}, {0, 0, rows - rows / 2, columns - columns / 2}, value);
}

StdConv2d StdConv2d::make(std::int64_t in, std::int64_t out, std::int64_t kernel, Initializer& init,
                          std::int64_t stride, double epsilon) {
  Conv2d plain = Conv2d::make(in, out, kernel, init, {.stride = stride, .with_bias = false});
  return {.weight = std::move(plain.weight), .stride = stride, .epsilon = epsilon};
}

Tensor StdConv2d::operator()(const Tensor& x) const {
  const std::int64_t kernel = weight.shape()[2];
  Tensor filters = standardize_weight(weight, epsilon);  // in the weight's precision; then rounded as for_input does
  if (x.dtype() == DType::bf16 && filters.dtype() == DType::f32) filters = cast(filters, DType::bf16);
  if (stride == 1 && kernel % 2 == 1) return conv2d(x, filters, std::nullopt, 1, kernel / 2);  // padded without a copy
  return conv2d(pad_same(x, kernel, stride), filters, std::nullopt, stride);
}

BatchNorm2d BatchNorm2d::make(std::int64_t channels, Initializer& init, double epsilon) {
  VT_CHECK(channels > 0, "BatchNorm2d: channels are {}, expected more than 0", channels);
  const DType dtype = init.dtype() == DType::f64 ? DType::f64 : DType::f32;
  return {.weight = init.constant({channels}, 1),
          .bias = init.constant({channels}, 0),
          .running_mean = Buffer(zeros({channels}, dtype)),
          .running_var = Buffer(ones({channels}, dtype)),
          .num_batches_tracked = Buffer(zeros({}, DType::i64)),
          .epsilon = epsilon};
}

Tensor BatchNorm2d::operator()(const Tensor& x, const Pass& pass) const {
  if (pass.training) {
    Tensor count = num_batches_tracked.value();
    add_into(count, ones({}, DType::i64, count.device()));
  }
  return batch_norm(x, weight, bias, {running_mean.value(), running_var.value()}, pass.training, momentum, epsilon);
}

GroupNorm GroupNorm::make(std::int64_t channels, Initializer& init, std::int64_t groups, double epsilon) {
  VT_CHECK(groups > 0 && channels > 0 && channels % groups == 0, "GroupNorm: {} channels do not divide into {} groups",
           channels, groups);
  return {.weight = init.constant({channels}, 1),
          .bias = init.constant({channels}, 0),
          .groups = groups,
          .epsilon = epsilon};
}

Tensor GroupNorm::operator()(const Tensor& x) const { return group_norm(x, groups, weight, bias, epsilon); }

}  // namespace vitrine
