// The residual networks of He et al. 2016, "Deep residual learning for image recognition", with the
// names and the initialisation of timm and torchvision: teachers for distillation, and a comparison
// for everything else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/family/family.h"
#include "nn/image_layers.h"

namespace vitrine {

/// Sizes and rates. The default is ResNet-18 at 224 pixels.
struct ResNetConfig {
  std::int64_t image = 224;  // pixels on a side of the images that it is meant for; any other size works too
  std::int64_t channels = 3;
  std::int64_t classes = 1000;          // 0: no head, the pooled features are the result
  std::vector<int> depths{2, 2, 2, 2};  // blocks of each stage; every later stage halves the map
  std::int64_t width = 64;              // channels within the blocks of the first stage, doubled from stage to stage
  bool bottleneck = false;  // blocks of 1 x 1, 3 x 3, 1 x 1 convolutions, with four times the width outside (figure 5)
  bool small_images = false;  // a 3 x 3 stem without pooling in place of 7 x 7 with stride 2 (section 4.2)
  double drop_rate = 0;       // before the head

  std::int64_t width_of(std::size_t stage) const { return width << stage; }

  static void options(auto& self, auto&& option) {
    classifier_options(self, option);
    option(&ModelOptions::depths, self.depths, "blocks of every stage, such as \"2,2,6,2\"");
  }
};

/// What replaces the identity beside a block that changes the shape: a 1 x 1 convolution and a norm
/// ("option B").
struct ResNetShortcut {
  Conv2d conv;
  BatchNorm2d norm;

  static void fields(auto& self, auto&& field) {
    field("0", self.conv);
    field("1", self.norm);
  }
};

/// x -> relu(F(x) + shortcut(x)), where F is two or three convolutions with a norm behind each and
/// a ReLU between them.
struct ResNetBlock {
  Conv2d conv1;
  BatchNorm2d bn1;
  Conv2d conv2;
  BatchNorm2d bn2;
  std::optional<Conv2d> conv3;  // of a bottleneck
  std::optional<BatchNorm2d> bn3;
  std::optional<ResNetShortcut> downsample;

  static void fields(auto& self, auto&& field) {
    field("conv1", self.conv1);
    field("bn1", self.bn1);
    field("conv2", self.conv2);
    field("bn2", self.bn2);
    field("conv3", self.conv3);
    field("bn3", self.bn3);
    field("downsample", self.downsample);
  }
  /// `in` channels -> `width`, or 4 `width` with a bottleneck. The stride is that of the 3 x 3
  /// convolution, as in torchvision.
  static ResNetBlock make(const ResNetConfig& config, std::int64_t in, std::int64_t width, std::int64_t stride,
                          Initializer& init);
  Tensor operator()(const Tensor& x, const Pass& pass) const;  // (B, in, H, W) -> (B, out, H/stride, W/stride)
};

struct ResNet {
  Conv2d conv1;  // the stem
  BatchNorm2d bn1;
  std::vector<std::vector<ResNetBlock>> stages;
  std::optional<Linear> fc;
  Dropout drop;
  ResNetConfig config;

  static void fields(auto& self, auto&& field) {
    field("conv1", self.conv1);
    field("bn1", self.bn1);
    for (std::size_t i = 0; i < self.stages.size(); ++i) field("layer" + std::to_string(i + 1), self.stages[i]);
    field("fc", self.fc);
    field("drop", self.drop);
    field("config", self.config);
  }

  /// Weights as timm draws them: convolutions N(0, 2 / fan_out) of He et al. 2015, and the last
  /// norm of every block starts at 0, so that the block starts as the identity (Goyal et al. 2017).
  /// Throws Error where the configuration contradicts itself.
  static ResNet make(const ResNetConfig& config, Initializer init);

  Tensor operator()(const Tensor& images, const Pass& pass = {}) const;        // (B, 3, H, W) -> logits (B, classes)
  Tensor forward_features(const Tensor& images, const Pass& pass = {}) const;  // -> (B, C, H/32, W/32)
  Tensor forward_head(const Tensor& x, const Pass& pass = {}) const;           // -> logits (B, classes)
};

/// What the registry knows of the family; see models/family/family.h.
struct ResNetFamily {
  using Config = ResNetConfig;
  using Model = ResNet;
  static constexpr const char* name = "resnet";
  static constexpr bool takes_any_size = true;
  static constexpr LayerNames layers{.block = R"(layer\d+\.\d+)", .head = "fc"};
  static std::vector<std::string> no_decay() { return {}; }
  static std::vector<LayerSummary> summarize(const ResNet& model);  // for images of config.image pixels
  static std::vector<CatalogRow<ResNetConfig>> catalog();
};

}  // namespace vitrine
