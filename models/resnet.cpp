// ResNet: how it is put together, and its forward pass.
#include "models/resnet.h"

#include <fmt/format.h>

#include <algorithm>

namespace vitrine {
namespace {

void check_config(const ResNetConfig& c) {
  VT_CHECK(c.image > 0 && c.channels > 0 && c.width > 0 && c.classes >= 0,
           "resnet: image {}, channels {}, width {}, classes {}: expected classes >= 0 and the others > 0", c.image,
           c.channels, c.width, c.classes);
  VT_CHECK(!c.depths.empty() && std::ranges::all_of(c.depths, [](int depth) { return depth > 0; }),
           "resnet: depths are {}, expected a number above 0 for every stage", fmt::join(c.depths, ", "));
  VT_CHECK(c.drop_rate >= 0 && c.drop_rate < 1, "resnet: drop_rate is {}, expected 0 <= rate < 1", c.drop_rate);
}

/// A convolution without bias (the norm behind it has one) that keeps the size but for the stride.
Conv2d convolution(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride, Initializer& init) {
  return {.weight = he_normal({out, in, kernel, kernel}, init),
          .bias = std::nullopt,
          .stride = stride,
          .padding = kernel / 2};
}

}  // namespace

ResNetBlock ResNetBlock::make(const ResNetConfig& config, std::int64_t in, std::int64_t width, std::int64_t stride,
                              Initializer& init) {
  const std::int64_t out = config.bottleneck ? 4 * width : width;
  ResNetBlock block;
  if (config.bottleneck) {
    block.conv1 = convolution(in, width, 1, 1, init);
    block.conv2 = convolution(width, width, 3, stride, init);
    block.conv3 = convolution(width, out, 1, 1, init);
    block.bn3 = BatchNorm2d::make(out, init);
  } else {
    block.conv1 = convolution(in, width, 3, stride, init);
    block.conv2 = convolution(width, width, 3, 1, init);
  }
  block.bn1 = BatchNorm2d::make(width, init);
  block.bn2 = BatchNorm2d::make(width, init);
  (block.bn3 ? *block.bn3 : block.bn2).weight = init.constant({out}, 0);
  if (stride > 1 || in != out) {
    block.downsample = {.conv = convolution(in, out, 1, stride, init), .norm = BatchNorm2d::make(out, init)};
  }
  return block;
}

Tensor ResNetBlock::operator()(const Tensor& x, const Pass& pass) const {
  Tensor y = relu(bn1(conv1(x), pass));
  y = bn2(conv2(y), pass);
  if (conv3) y = (*bn3)((*conv3)(relu(y)), pass);
  return relu(y + (downsample ? downsample->norm(downsample->conv(x), pass) : x));
}

ResNet ResNet::make(const ResNetConfig& config, Initializer init) {
  check_config(config);
  ResNet model;
  model.config = config;
  model.drop = {config.drop_rate};
  model.conv1 = config.small_images ? convolution(config.channels, config.width, 3, 1, init)
                                    : convolution(config.channels, config.width, 7, 2, init);
  model.bn1 = BatchNorm2d::make(config.width, init);
  std::int64_t in = config.width;
  for (std::size_t stage = 0; stage < config.depths.size(); ++stage) {
    std::vector<ResNetBlock>& blocks = model.stages.emplace_back();
    for (int i = 0; i < config.depths[stage]; ++i) {
      const std::int64_t stride = stage > 0 && i == 0 ? 2 : 1;
      blocks.push_back(ResNetBlock::make(config, in, config.width_of(stage), stride, init));
      in = config.width_of(stage) * (config.bottleneck ? 4 : 1);
    }
  }
  if (config.classes > 0) model.fc = Linear::make(in, config.classes, init);
  return model;
}

Tensor ResNet::forward_features(const Tensor& images, const Pass& pass) const {
  VT_CHECK(images.dim() == 4 && images.size(1) == config.channels,
           "resnet: images have shape {}, expected (B, {}, H, W)", to_string(images.shape()), config.channels);
  Tensor x = relu(bn1(conv1(images), pass));
  if (!config.small_images) x = max_pool2d(x, 3, 2, 1);
  for (const std::vector<ResNetBlock>& blocks : stages) {
    for (const ResNetBlock& block : blocks) x = block(x, pass);
  }
  return x;
}

Tensor ResNet::forward_head(const Tensor& x, const Pass& pass) const {
  const Tensor pooled = drop(mean(x, {2, 3}), pass);  // (B, C)
  return fc ? (*fc)(pooled) : pooled;
}

Tensor ResNet::operator()(const Tensor& images, const Pass& pass) const {
  return forward_head(forward_features(images, pass), pass);
}

}  // namespace vitrine
