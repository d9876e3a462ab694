// The hybrids: how they are put together, and the forward pass of the backbone.
#include "models/hybrid.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

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
  VT_CHECK(images.dim() == 4 && images.size(1) == config.channels && images.size(2) == config.image &&
               images.size(3) == config.image,
           "hybrid: images have shape {}, expected (B, {}, {}, {})", to_string(images.shape()), config.channels,
           config.image, config.image);
  return vit.forward_features(backbone(images), pass);
}

Tensor HybridVisionTransformer::operator()(const Tensor& images, const Pass& pass) const {
  return vit.forward_head(forward_features(images, pass));
}

}  // namespace vitrine
