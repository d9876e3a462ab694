// Rows of the layer table for the convolutional networks.
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

}  // namespace vitrine
