// RegNetY: widths from a line, how it is put together, and its forward pass.
#include "models/regnet.h"

#include <algorithm>
#include <cmath>

#include "models/family/check_images.h"
#include "models/family/summary_rows.h"

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

/// The closest multiple; of two equally close ones that with an even factor, as Python's round has
/// it.
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
  check_images("regnet", images, config.channels);
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

// ---- What the registry asks ----

namespace {

/// A convolution and its norm; returns the side of the map behind them.
std::int64_t add_rows(std::vector<LayerSummary>& rows, const std::string& name, const ConvNorm& layer,
                      std::int64_t side) {
  side = side_after(side, layer.conv.weight.shape()[2], layer.conv.stride, layer.conv.padding);
  rows.push_back(conv_row(name + ".conv", layer.conv, side));
  rows.push_back(norm_row(name + ".bn", layer.bn, side));
  return side;
}

std::int64_t add_block(std::vector<LayerSummary>& rows, const std::string& name, const RegNetBlock& block,
                       std::int64_t side) {
  const std::int64_t before = side;
  side = add_rows(rows, name + ".conv1", block.conv1, side);
  side = add_rows(rows, name + ".conv2", block.conv2, side);
  if (block.se) {
    rows.push_back(conv_row(name + ".se.fc1", block.se->fc1, 1));
    rows.push_back(conv_row(name + ".se.fc2", block.se->fc2, 1));
  }
  side = add_rows(rows, name + ".conv3", block.conv3, side);
  if (block.downsample) add_rows(rows, name + ".downsample", *block.downsample, before);
  return side;
}

}  // namespace

std::vector<LayerSummary> RegNetFamily::summarize(const RegNet& model) {
  std::vector<LayerSummary> rows;
  std::int64_t side = add_rows(rows, "stem", model.stem, model.config.image);
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    for (std::size_t b = 0; b < model.stages[s].size(); ++b) {
      side = add_block(rows, fmt::format("s{}.b{}", s + 1, b + 1), model.stages[s][b], side);
    }
  }
  if (model.fc) rows.push_back(linear_row("head.fc", *model.fc, {}));
  return rows;
}

/// regnety_<N> has about N * 10^8 multiply-adds. The five arguments of `config` are the paper's
/// (appendix), the crops timm's.
std::vector<CatalogRow<RegNetConfig>> RegNetFamily::catalog() {
  std::vector<CatalogRow<RegNetConfig>> rows;
  const auto add = [&](const char* name, const RegNetConfig& config, double crop_pct) {
    PretrainedConfig pretrained = imagenet_config(config.image);
    pretrained.crop_pct = crop_pct;
    pretrained.first_conv = "stem.conv";
    pretrained.classifier = {"head.fc"};
    rows.push_back({name, config, pretrained});
  };
  const auto config = [](std::int64_t first_width, double slope, double multiplier, std::int64_t group_width,
                         int depth) {
    return RegNetConfig{.depth = depth,
                        .first_width = first_width,
                        .slope = slope,
                        .multiplier = multiplier,
                        .group_width = group_width};
  };
  add("regnety_002", config(24, 36.44, 2.49, 8, 13), 0.875);
  add("regnety_004", config(48, 27.89, 2.09, 8, 16), 0.965);
  add("regnety_006", config(48, 32.54, 2.32, 16, 15), 0.875);
  add("regnety_008", config(56, 38.84, 2.4, 16, 14), 0.875);
  add("regnety_016", config(48, 20.71, 2.65, 24, 27), 0.965);
  add("regnety_032", config(80, 42.63, 2.66, 24, 21), 0.95);
  add("regnety_040", config(96, 31.41, 2.24, 64, 22), 0.95);
  add("regnety_064", config(112, 33.22, 2.27, 72, 25), 0.95);
  add("regnety_080", config(192, 76.82, 2.19, 56, 17), 0.95);
  add("regnety_120", config(168, 73.36, 2.37, 112, 19), 0.95);
  add("regnety_160", config(200, 106.23, 2.48, 112, 18), 0.95);
  return rows;
}

}  // namespace vitrine
