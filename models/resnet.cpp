// ResNet: how it is put together, and its forward pass.
#include "models/resnet.h"

#include <fmt/format.h>

#include <algorithm>

#include "models/family/check_images.h"
#include "models/family/summary_rows.h"

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
  check_images("resnet", images, config.channels);
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

// ---- What the registry asks ----

namespace {

/// Appends a block's rows; returns the side of the map behind it.
std::int64_t add_block(std::vector<LayerSummary>& rows, const std::string& name, const ResNetBlock& block,
                       std::int64_t side) {
  const auto add = [&](const char* number, const Conv2d& conv, const BatchNorm2d& norm) {
    side = side_after(side, conv.weight.shape()[2], conv.stride, conv.padding);
    rows.push_back(conv_row(name + ".conv" + number, conv, side));
    rows.push_back(norm_row(name + ".bn" + number, norm, side));
  };
  add("1", block.conv1, block.bn1);
  add("2", block.conv2, block.bn2);
  if (block.conv3) add("3", *block.conv3, *block.bn3);
  if (block.downsample) {
    rows.push_back(conv_row(name + ".downsample.0", block.downsample->conv, side));
    rows.push_back(norm_row(name + ".downsample.1", block.downsample->norm, side));
  }
  return side;
}

}  // namespace

std::vector<LayerSummary> ResNetFamily::summarize(const ResNet& model) {
  std::vector<LayerSummary> rows;
  std::int64_t side =
      side_after(model.config.image, model.conv1.weight.shape()[2], model.conv1.stride, model.conv1.padding);
  rows.push_back(conv_row("conv1", model.conv1, side));
  rows.push_back(norm_row("bn1", model.bn1, side));
  if (!model.config.small_images) side = side_after(side, 3, 2, 1);
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    for (std::size_t i = 0; i < model.stages[s].size(); ++i) {
      side = add_block(rows, fmt::format("layer{}.{}", s + 1, i), model.stages[s][i], side);
    }
  }
  if (model.fc) rows.push_back(linear_row("fc", *model.fc, {}));
  return rows;
}

/// resnet18, resnet34, resnet50; and for small images resnet<N>_cifar: the paper's own (N = 20, 56:
/// 16 channels, three stages, with 1 x 1 convolutions as shortcuts) and the wide form that later
/// work uses (N = 18).
std::vector<CatalogRow<ResNetConfig>> ResNetFamily::catalog() {
  std::vector<CatalogRow<ResNetConfig>> rows;
  const auto add = [&](const char* name, const ResNetConfig& config) {
    PretrainedConfig pretrained = imagenet_config(config.image);
    if (config.image == 224) pretrained.crop_pct = 0.95;
    pretrained.first_conv = "conv1";
    pretrained.classifier = {"fc"};
    rows.push_back({name, config, pretrained});
  };
  add("resnet18", {});
  add("resnet34", {.depths = {3, 4, 6, 3}});
  add("resnet50", {.depths = {3, 4, 6, 3}, .bottleneck = true});
  const auto add_cifar = [&](const char* name, std::vector<int> depths, std::int64_t width) {
    add(name, {.image = 32, .classes = 10, .depths = std::move(depths), .width = width, .small_images = true});
  };
  add_cifar("resnet20_cifar", {3, 3, 3}, 16);
  add_cifar("resnet56_cifar", {9, 9, 9}, 16);
  add_cifar("resnet18_cifar", {2, 2, 2, 2}, 64);
  return rows;
}

}  // namespace vitrine
