// The hybrids of Dosovitskiy et al. 2021, "An image is worth 16x16 words" (section 3.1) and Steiner
// et al. 2022, "How to train your ViT?": a ViT whose image is the last map of a ResNet, with timm's
// names and initialisation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/vit.h"
#include "nn/image_layers.h"

namespace vitrine {

/// Sizes and rates. The default is R50+ViT-B/16 at 224 pixels.
struct HybridConfig {
  /// The ViT as seen from the images: `patch` is in their pixels, a multiple of the backbone's
  /// stride. (timm's patch_size is in positions of the backbone's map.)
  ViTConfig vit{.dim = 768, .depth = 12, .heads = 12};
  std::vector<int> depths{3, 4, 9};  // blocks of each stage of the backbone; none: the stem is all there is
  std::int64_t width = 64;           // channels of the stem, and within the blocks of the first stage
  std::int64_t groups = 32;          // of the norms

  std::int64_t stride() const;    // pixels per position of the backbone's map: 4, doubled by all stages but the first
  std::int64_t features() const;  // channels of the backbone's map

  static void options(auto& self, auto&& option) { ViTConfig::encoder_options(self.vit, option); }
};

/// What replaces the identity beside a block that changes the shape.
struct HybridShortcut {
  StdConv2d conv;
  GroupNorm norm;

  static void fields(auto& self, auto&& field) {
    field("conv", self.conv);
    field("norm", self.norm);
  }
};

/// ResNet's bottleneck with standardised filters and group norm: x -> relu(F(x) + shortcut(x)). The
/// 3 x 3 convolution has the stride.
struct HybridBlock {
  std::optional<HybridShortcut> downsample;
  StdConv2d conv1;  // 1 x 1
  GroupNorm norm1;
  StdConv2d conv2;  // 3 x 3
  GroupNorm norm2;
  StdConv2d conv3;  // 1 x 1, to four times the channels
  GroupNorm norm3;

  static void fields(auto& self, auto&& field) {
    field("downsample", self.downsample);
    field("conv1", self.conv1);
    field("norm1", self.norm1);
    field("conv2", self.conv2);
    field("norm2", self.norm2);
    field("conv3", self.conv3);
    field("norm3", self.norm3);
  }
  /// `in` channels -> 4 `width`. The first block of every stage has a shortcut.
  static HybridBlock make(std::int64_t in, std::int64_t width, std::int64_t stride, bool is_first, std::int64_t groups,
                          Initializer& init);
  Tensor operator()(const Tensor& x) const;  // (B, in, H, W) -> (B, 4 width, H/stride, W/stride)
};

struct HybridStage {
  std::vector<HybridBlock> blocks;

  static void fields(auto& self, auto&& field) { field("blocks", self.blocks); }
};

/// The ResNet in front of the ViT.
struct HybridBackbone {
  StdConv2d conv;  // the stem: 7 x 7, stride 2; then the norm, ReLU, and a 3 x 3 maximum with stride 2
  GroupNorm norm;
  std::vector<HybridStage> stages;

  static void fields(auto& self, auto&& field) {
    const std::string stem = self.stages.empty() ? "" : "stem.";  // a stem alone goes without a name, as in timm
    field(stem + "conv", self.conv);
    field(stem + "norm", self.norm);
    field("stages", self.stages);
  }
  static HybridBackbone make(const HybridConfig& config, Initializer& init);
  Tensor operator()(const Tensor& images) const;  // (B, C, H, W) -> (B, features, H/stride, W/stride)
};

/// A backbone, and a ViT for which the backbone's map is the image.
struct HybridVisionTransformer {
  HybridBackbone backbone;
  VisionTransformer vit;
  ViTConfig config;  // of the whole; vit.config is in positions of the map

  static void fields(auto& self, auto&& field) {
    field("patch_embed.backbone", self.backbone);
    VisionTransformer::fields(self.vit, field);  // under no name of its own, as in timm
    field("config", self.config);
  }

  /// Weights as timm draws them: the ViT's as always; the backbone's convolutions N(0, 2 /
  /// fan_out), and the last norm of every block starts at 0. (A stem alone is drawn as PyTorch
  /// does.) Throws Error where the configuration contradicts itself.
  static HybridVisionTransformer make(const HybridConfig& config, Initializer init);

  Tensor operator()(const Tensor& images, const Pass& pass = {}) const;        // (B, C, H, W) -> logits (B, classes)
  Tensor forward_features(const Tensor& images, const Pass& pass = {}) const;  // -> tokens (B, tokens, D)
};

/// What the registry knows of the family; see models/family/family.h.
struct HybridFamily {
  using Config = HybridConfig;
  using Model = HybridVisionTransformer;
  static constexpr const char* name = "hybrid";
  static constexpr bool takes_any_size = false;
  static constexpr LayerNames layers = ViTFamily::layers;  // the backbone counts as patch embedding
  static std::vector<std::string> no_decay() { return ViTFamily::no_decay(); }
  static std::vector<LayerSummary> summarize(const HybridVisionTransformer& model);
  static std::vector<CatalogRow<HybridConfig>> catalog();
};

}  // namespace vitrine
