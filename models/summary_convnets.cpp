// Rows of the layer table for the convolutional networks, and for those in front of a ViT.
#include "models/hybrid.h"
#include "models/regnet.h"
#include "models/resnet.h"
#include "models/summary_rows.h"

namespace vitrine {
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

ModelSummary summarize(const ResNet& model) {
  ModelSummary summary{.name = "resnet", .layers = {}};
  auto& rows = summary.layers;
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
  return summary;
}

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

ModelSummary summarize(const RegNet& model) {
  ModelSummary summary{.name = "regnet", .layers = {}};
  std::int64_t side = add_rows(summary.layers, "stem", model.stem, model.config.image);
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    for (std::size_t b = 0; b < model.stages[s].size(); ++b) {
      side = add_block(summary.layers, fmt::format("s{}.b{}", s + 1, b + 1), model.stages[s][b], side);
    }
  }
  if (model.fc) summary.layers.push_back(linear_row("head.fc", *model.fc, {}));
  return summary;
}

namespace {

/// A convolution with standardised filters and its norm; returns the side of the map behind them.
std::int64_t add_rows(std::vector<LayerSummary>& rows, const std::string& conv_name, const StdConv2d& conv,
                      const std::string& norm_name, const GroupNorm& norm, std::int64_t side) {
  side = (side + conv.stride - 1) / conv.stride;
  rows.push_back({conv_name,
                  {conv.weight.shape()[0], side, side},
                  parameter_count(conv),
                  side * side * parameters_of(conv.weight)});
  rows.push_back(norm_row(norm_name, norm, side));
  return side;
}

std::int64_t add_block(std::vector<LayerSummary>& rows, const std::string& name, const HybridBlock& block,
                       std::int64_t side) {
  if (const auto& shortcut = block.downsample) {
    add_rows(rows, name + ".downsample.conv", shortcut->conv, name + ".downsample.norm", shortcut->norm, side);
  }
  side = add_rows(rows, name + ".conv1", block.conv1, name + ".norm1", block.norm1, side);
  side = add_rows(rows, name + ".conv2", block.conv2, name + ".norm2", block.norm2, side);
  return add_rows(rows, name + ".conv3", block.conv3, name + ".norm3", block.norm3, side);
}

}  // namespace

ModelSummary summarize(const HybridVisionTransformer& model) {
  ModelSummary summary{.name = "hybrid", .layers = {}};
  auto& rows = summary.layers;
  const HybridBackbone& backbone = model.backbone;
  const std::string name = "patch_embed.backbone.", stem = name + (backbone.stages.empty() ? "" : "stem.");
  std::int64_t side = add_rows(rows, stem + "conv", backbone.conv, stem + "norm", backbone.norm, model.config.image);
  side = (side + 1) / 2;  // the maximum
  for (std::size_t s = 0; s < backbone.stages.size(); ++s) {
    for (std::size_t i = 0; i < backbone.stages[s].blocks.size(); ++i) {
      side = add_block(rows, fmt::format("{}stages.{}.blocks.{}", name, s, i), backbone.stages[s].blocks[i], side);
    }
  }
  const ModelSummary vit = summarize(model.vit);
  rows.insert(rows.end(), vit.layers.begin(), vit.layers.end());
  return summary;
}

}  // namespace vitrine
