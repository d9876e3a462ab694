// RegNetY: widths from a line, how it is put together, and its forward pass.
#include "models/regnet.h"

#include <algorithm>
#include <cmath>

namespace vitrine {
namespace {

void check_config(const RegNetConfig& c) {
  VT_CHECK(c.image > 0 && c.channels > 0 && c.classes >= 0 && c.stem_width > 0,
           "regnet: image {}, channels {}, classes {}, stem_width {}: expected classes >= 0 and the others > 0",
           c.image, c.channels, c.classes, c.stem_width);
  VT_CHECK(c.depth > 0 && c.group_width > 0, "regnet: depth {}, group_width {}: expected both above 0", c.depth,
           c.group_width);
  VT_CHECK(
      c.first_width > 0 && c.first_width % 8 == 0 && c.slope >= 0 && c.multiplier > 1,
      "regnet: first_width {}, slope {}, multiplier {}: expected a multiple of 8 above 0, slope >= 0, multiplier > 1",
      c.first_width, c.slope, c.multiplier);
  VT_CHECK(c.squeeze_ratio >= 0, "regnet: squeeze_ratio is {}, expected 0 (none) or more", c.squeeze_ratio);
  VT_CHECK(c.drop_rate >= 0 && c.drop_rate < 1, "regnet: drop_rate is {}, expected 0 <= rate < 1", c.drop_rate);
}

/// The closest multiple; of two equally close ones that with an even factor, as Python's round has it.
std::int64_t closest_multiple(double value, std::int64_t factor) {
  return std::lrint(value / static_cast<double>(factor)) * factor;
}

/// A weight and a bias as timm draws all convolutions of a RegNet.
Conv2d dense_convolution(std::int64_t in, std::int64_t out, Initializer& init) {
  return {.weight = he_normal({out, in, 1, 1}, init), .bias = init.constant({out}, 0)};
}

}  // namespace

std::vector<RegNetStage> regnet_stages(const RegNetConfig& config) {
  check_config(config);
  const auto first = static_cast<double>(config.first_width);
  std::vector<RegNetStage> stages;
  std::int64_t previous = 0;
  for (int j = 0; j < config.depth; ++j) {
    const double wanted = first + config.slope * j;                                               // equation 2
    const double power = std::nearbyint(std::log(wanted / first) / std::log(config.multiplier));  // equation 3, rounded
    const std::int64_t width = closest_multiple(first * std::pow(config.multiplier, power), 8);   // equation 4
    if (width != previous) stages.push_back({.depth = 0, .width = width, .group_width = config.group_width});
    ++stages.back().depth;
    previous = width;
  }
  for (RegNetStage& stage : stages) {
    stage.group_width = std::min(stage.group_width, stage.width);
    stage.width = closest_multiple(static_cast<double>(stage.width), stage.group_width);
  }
  return stages;
}

ConvNorm ConvNorm::make(std::int64_t in, std::int64_t out, std::int64_t kernel, Initializer& init, std::int64_t stride,
                        std::int64_t groups) {
  return {.conv = {.weight = he_normal({out, in / groups, kernel, kernel}, init, groups),
                   .bias = std::nullopt,
                   .stride = stride,
                   .padding = kernel / 2,
                   .groups = groups},
          .bn = BatchNorm2d::make(out, init)};
}

SqueezeExcitation SqueezeExcitation::make(std::int64_t channels, std::int64_t squeezed, Initializer& init) {
  VT_CHECK(channels > 0 && squeezed > 0, "SqueezeExcitation: {} channels are squeezed to {}, expected both above 0",
           channels, squeezed);
  return {.fc1 = dense_convolution(channels, squeezed, init), .fc2 = dense_convolution(squeezed, channels, init)};
}

Tensor SqueezeExcitation::operator()(const Tensor& x) const {
  return x * sigmoid(fc2(relu(fc1(mean(x, {2, 3}, true)))));
}

RegNetBlock RegNetBlock::make(std::int64_t in, const RegNetStage& stage, std::int64_t stride, double squeeze_ratio,
                              Initializer& init) {
  const std::int64_t width = stage.width;
  RegNetBlock block;
  block.conv1 = ConvNorm::make(in, width, 1, init);
  block.conv2 = ConvNorm::make(width, width, 3, init, stride, width / stage.group_width);
  if (squeeze_ratio > 0) {  // of the channels that enter the block, as in the released code, not of those squeezed
    block.se = SqueezeExcitation::make(width, std::lrint(static_cast<double>(in) * squeeze_ratio), init);
  }
  block.conv3 = ConvNorm::make(width, width, 1, init);
  block.conv3.bn.weight = init.constant({width}, 0);
  if (stride > 1 || in != width) block.downsample = ConvNorm::make(in, width, 1, init, stride);
  return block;
}

Tensor RegNetBlock::operator()(const Tensor& x, const Pass& pass) const {
  Tensor y = relu(conv1(x, pass));
  y = relu(conv2(y, pass));
  if (se) y = (*se)(y);
  y = conv3(y, pass);
  return relu(y + (downsample ? (*downsample)(x, pass) : x));
}

RegNet RegNet::make(const RegNetConfig& config, Initializer init) {
  RegNet model;
  model.config = config;
  const std::vector<RegNetStage> stages = regnet_stages(config);
  model.drop = {config.drop_rate};
  model.stem = ConvNorm::make(config.channels, config.stem_width, 3, init, 2);
  std::int64_t in = config.stem_width;
  for (const RegNetStage& stage : stages) {
    std::vector<RegNetBlock>& blocks = model.stages.emplace_back();
    for (int i = 0; i < stage.depth; ++i) {
      blocks.push_back(RegNetBlock::make(in, stage, i == 0 ? 2 : 1, config.squeeze_ratio, init));
      in = stage.width;
    }
  }
  if (config.classes > 0) {
    model.fc = {.weight = init.normal({config.classes, in}, 0.01), .bias = init.constant({config.classes}, 0)};
  }
  return model;
}

Tensor RegNet::forward_features(const Tensor& images, const Pass& pass) const {
  VT_CHECK(images.dim() == 4 && images.size(1) == config.channels,
           "regnet: images have shape {}, expected (B, {}, H, W)", to_string(images.shape()), config.channels);
  Tensor x = relu(stem(images, pass));
  for (const std::vector<RegNetBlock>& blocks : stages) {
    for (const RegNetBlock& block : blocks) x = block(x, pass);
  }
  return x;
}

Tensor RegNet::forward_head(const Tensor& x, const Pass& pass) const {
  const Tensor pooled = drop(mean(x, {2, 3}), pass);  // (B, C)
  return fc ? (*fc)(pooled) : pooled;
}

Tensor RegNet::operator()(const Tensor& images, const Pass& pass) const {
  return forward_head(forward_features(images, pass), pass);
}

}  // namespace vitrine
