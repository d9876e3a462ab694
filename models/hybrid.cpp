// The hybrids: how they are put together, and the forward pass of the backbone.
#include "models/hybrid.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "models/family/check_images.h"
#include "models/family/summary_rows.h"

namespace vitrine {
namespace {

void check_config(const HybridConfig& c) {
  VT_CHECK(std::ranges::all_of(c.depths, [](int depth) { return depth > 0; }),
           "hybrid: depths are {}, expected a number above 0 for every stage", fmt::join(c.depths, ", "));
  VT_CHECK(c.width > 0 && c.groups > 0 && c.width % c.groups == 0, "hybrid: width {} is not a multiple of groups {}",
           c.width, c.groups);
  VT_CHECK(c.vit.patch > 0 && c.vit.patch % c.stride() == 0,
           "hybrid: patch size {} is not a multiple of {}, the stride of the backbone", c.vit.patch, c.stride());
  VT_CHECK(c.vit.channels > 0 && c.vit.image > 0 && c.vit.image % c.vit.patch == 0,
           "hybrid: channels {}, image size {}: expected channels > 0 and a multiple of patch size {}", c.vit.channels,
           c.vit.image, c.vit.patch);
}

/// The ViT as seen from the backbone's map.
ViTConfig on_map(const HybridConfig& config) {
  ViTConfig map = config.vit;
  map.image /= config.stride();
  map.patch /= config.stride();
  map.channels = config.features();
  return map;
}

StdConv2d convolution(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride, Initializer& init) {
  return {.weight = he_normal({out, in, kernel, kernel}, init), .stride = stride};
}

}  // namespace

std::int64_t HybridConfig::stride() const { return depths.empty() ? 4 : std::int64_t{4} << (depths.size() - 1); }

std::int64_t HybridConfig::features() const { return depths.empty() ? width : (4 * width) << (depths.size() - 1); }

HybridBlock HybridBlock::make(std::int64_t in, std::int64_t width, std::int64_t stride, bool is_first,
                              std::int64_t groups, Initializer& init) {
  const std::int64_t out = 4 * width;
  HybridBlock block{.downsample = std::nullopt,
                    .conv1 = convolution(in, width, 1, 1, init),
                    .norm1 = GroupNorm::make(width, init, groups),
                    .conv2 = convolution(width, width, 3, stride, init),
                    .norm2 = GroupNorm::make(width, init, groups),
                    .conv3 = convolution(width, out, 1, 1, init),
                    .norm3 = GroupNorm::make(out, init, groups)};
  block.norm3.weight = init.constant({out}, 0);
  if (is_first) {
    block.downsample = {.conv = convolution(in, out, 1, stride, init), .norm = GroupNorm::make(out, init, groups)};
  }
  return block;
}

Tensor HybridBlock::operator()(const Tensor& x) const {
  Tensor y = relu(norm1(conv1(x)));
  y = relu(norm2(conv2(y)));
  y = norm3(conv3(y));
  return relu(y + (downsample ? downsample->norm(downsample->conv(x)) : x));
}

HybridBackbone HybridBackbone::make(const HybridConfig& config, Initializer& init) {
  HybridBackbone backbone;
  backbone.conv = config.depths.empty() ? StdConv2d::make(config.vit.channels, config.width, 7, init, 2)
                                        : convolution(config.vit.channels, config.width, 7, 2, init);
  backbone.norm = GroupNorm::make(config.width, init, config.groups);
  std::int64_t in = config.width;
  for (std::size_t stage = 0; stage < config.depths.size(); ++stage) {
    std::vector<HybridBlock>& blocks = backbone.stages.emplace_back().blocks;
    const std::int64_t width = config.width << stage;
    for (int i = 0; i < config.depths[stage]; ++i) {
      blocks.push_back(HybridBlock::make(in, width, stage > 0 && i == 0 ? 2 : 1, i == 0, config.groups, init));
      in = 4 * width;
    }
  }
  return backbone;
}

Tensor HybridBackbone::operator()(const Tensor& images) const {
  Tensor x = relu(norm(conv(images)));
  x = max_pool2d(pad_same(x, 3, 2, -std::numeric_limits<double>::infinity()), 3, 2);
  for (const HybridStage& stage : stages) {
    for (const HybridBlock& block : stage.blocks) x = block(x);
  }
  return x;
}

HybridVisionTransformer HybridVisionTransformer::make(const HybridConfig& config, Initializer init) {
  check_config(config);
  HybridVisionTransformer model;
  model.config = config.vit;
  model.backbone = HybridBackbone::make(config, init);
  model.vit = VisionTransformer::make(on_map(config), init);  // goes on with the next random numbers
  return model;
}

Tensor HybridVisionTransformer::forward_features(const Tensor& images, const Pass& pass) const {
  check_images("hybrid", images, config.channels, config.image);
  return vit.forward_features(backbone(images), pass);
}

Tensor HybridVisionTransformer::operator()(const Tensor& images, const Pass& pass) const {
  return vit.forward_head(forward_features(images, pass));
}

// ---- What the registry asks ----

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

std::vector<LayerSummary> HybridFamily::summarize(const HybridVisionTransformer& model) {
  std::vector<LayerSummary> rows;
  const HybridBackbone& backbone = model.backbone;
  const std::string name = "patch_embed.backbone.", stem = name + (backbone.stages.empty() ? "" : "stem.");
  std::int64_t side = add_rows(rows, stem + "conv", backbone.conv, stem + "norm", backbone.norm, model.config.image);
  side = (side + 1) / 2;  // the maximum
  for (std::size_t s = 0; s < backbone.stages.size(); ++s) {
    for (std::size_t i = 0; i < backbone.stages[s].blocks.size(); ++i) {
      side = add_block(rows, fmt::format("{}stages.{}.blocks.{}", name, s, i), backbone.stages[s].blocks[i], side);
    }
  }
  const std::vector<LayerSummary> vit = ViTFamily::summarize(model.vit);
  rows.insert(rows.end(), vit.begin(), vit.end());
  return rows;
}

/// vit_<size>_r<N>_s<P>_<image>: N layers in the ResNet in front, one token for P x P pixels.
/// vit_tiny_r_s16_p8_<image> has the stem alone in front, and patches of 8 x 8 positions behind it.
std::vector<CatalogRow<HybridConfig>> HybridFamily::catalog() {
  std::vector<CatalogRow<HybridConfig>> rows;
  const auto add = [&](const char* size, const char* form, std::int64_t patch, const std::vector<int>& depths) {
    for (const std::int64_t image : {224, 384}) {
      rows.push_back({fmt::format("vit_{}_{}_{}", size, form, image),
                      {.vit = vit_config(size, patch, image), .depths = depths},
                      {.input_size = {3, image, image},
                       .crop_pct = image == 224 ? 0.9 : 1.0,
                       .first_conv = depths.empty() ? "patch_embed.backbone.conv" : "patch_embed.backbone.stem.conv"}});
    }
  };
  add("tiny", "r_s16_p8", 32, {});
  add("small", "r26_s32", 32, {2, 2, 2, 2});
  add("base", "r50_s16", 16, {3, 4, 9});
  add("large", "r50_s32", 32, {3, 4, 6, 3});
  return rows;
}

}  // namespace vitrine
