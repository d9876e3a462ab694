// The RegNetY of Radosavovic et al. 2020, "Designing network design spaces", with timm's names and
// initialisation. The one of 16 GF is the teacher that DeiT learns from (Touvron et al. 2021,
// section 5.2).
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "models/family/family.h"
#include "nn/image_layers.h"

namespace vitrine {

/// Sizes and rates. The default is RegNetY-16GF at 224 pixels.
struct RegNetConfig {
  std::int64_t image = 224;  // pixels on a side of the images that it is meant for; any other size works too
  std::int64_t channels = 3;
  std::int64_t classes = 1000;     // 0: no head, the pooled features are the result
  int depth = 18;                  // d: blocks of all stages together
  std::int64_t first_width = 200;  // w_0, a multiple of 8
  double slope = 106.23;           // w_a: block j would have the width w_0 + w_a j, were it not quantised
  double multiplier = 2.48;        // w_m: from stage to stage, up to rounding
  std::int64_t group_width = 112;  // g: channels of a group of the 3 x 3 convolutions
  double squeeze_ratio = 0.25;     // channels between the layers of squeeze-and-excitation / channels into the block
  std::int64_t stem_width = 32;
  double drop_rate = 0;  // before the head

  static void options(auto& self, auto&& option) { classifier_options(self, option); }
};

/// The blocks of one stage: equally many channels everywhere.
struct RegNetStage {
  int depth = 0;
  std::int64_t width = 0;        // a multiple of group_width
  std::int64_t group_width = 0;  // at most `width`

  bool operator==(const RegNetStage&) const = default;
};

/// The stages that a configuration describes (section 3.3): the line w_0 + w_a j is quantised to
/// w_0 times powers of w_m (equations 2 to 4), then to multiples of 8; blocks of one width are a
/// stage; then widths become multiples of the group's width. Throws Error where the configuration
/// contradicts itself.
std::vector<RegNetStage> regnet_stages(const RegNetConfig& config);

/// A convolution without bias, and the norm behind it.
struct ConvNorm {
  Conv2d conv;
  BatchNorm2d bn;

  static void fields(auto& self, auto&& field) {
    field("conv", self.conv);
    field("bn", self.bn);
  }
  /// Keeps the size but for the stride. Drawn from N(0, 2 / fan_out) (He et al. 2015), fan_out
  /// within a group.
  static ConvNorm make(std::int64_t in, std::int64_t out, std::int64_t kernel, Initializer& init,
                       std::int64_t stride = 1, std::int64_t groups = 1);
  Tensor operator()(const Tensor& x, const Pass& pass) const { return bn(conv(x), pass); }
};

/// Squeeze-and-excitation: each channel is multiplied by sigmoid(fc2(relu(fc1(mean of the map)))),
/// a number between 0 and 1 that depends on all channels. Hu et al. 2018, "Squeeze-and-excitation
/// networks", equations 2 to 4.
struct SqueezeExcitation {
  Conv2d fc1;  // C -> fewer, 1 x 1 with bias: a linear layer under the name and shape of a convolution
  Conv2d fc2;  // -> C

  static void fields(auto& self, auto&& field) {
    field("fc1", self.fc1);
    field("fc2", self.fc2);
  }
  static SqueezeExcitation make(std::int64_t channels, std::int64_t squeezed, Initializer& init);
  Tensor operator()(const Tensor& x) const;  // (B, C, H, W) -> (B, C, H, W)
};

/// x -> relu(F(x) + shortcut(x)): ResNet's bottleneck without the bottleneck, with groups and
/// squeeze-and-excitation.
struct RegNetBlock {
  ConvNorm conv1;                       // 1 x 1
  ConvNorm conv2;                       // 3 x 3 in groups, with the stride
  std::optional<SqueezeExcitation> se;  // where squeeze_ratio > 0
  ConvNorm conv3;                       // 1 x 1
  std::optional<ConvNorm> downsample;   // the shortcut of a block that changes the shape

  static void fields(auto& self, auto&& field) {
    field("conv1", self.conv1);
    field("conv2", self.conv2);
    field("se", self.se);
    field("conv3", self.conv3);
    field("downsample", self.downsample);
  }
  static RegNetBlock make(std::int64_t in, const RegNetStage& stage, std::int64_t stride, double squeeze_ratio,
                          Initializer& init);
  Tensor operator()(const Tensor& x, const Pass& pass) const;  // (B, in, H, W) -> (B, width, H/stride, W/stride)
};

struct RegNet {
  ConvNorm stem;                                 // 3 x 3, stride 2
  std::vector<std::vector<RegNetBlock>> stages;  // the first block of each has stride 2
  std::optional<Linear> fc;
  Dropout drop;
  RegNetConfig config;

  static void fields(auto& self, auto&& field) {
    field("stem", self.stem);
    for (std::size_t s = 0; s < self.stages.size(); ++s) {
      for (std::size_t b = 0; b < self.stages[s].size(); ++b) {
        field(fmt::format("s{}.b{}", s + 1, b + 1), self.stages[s][b]);
      }
    }
    field("head.fc", self.fc);
    field("drop", self.drop);
    field("config", self.config);
  }

  /// Weights as timm draws them: convolutions N(0, 2 / fan_out), the head N(0, 0.01^2), biases 0,
  /// and the last norm of every block starts at 0 (Goyal et al. 2017). Throws Error where the
  /// configuration contradicts itself.
  static RegNet make(const RegNetConfig& config, Initializer init);

  Tensor operator()(const Tensor& images, const Pass& pass = {}) const;        // (B, 3, H, W) -> logits (B, classes)
  Tensor forward_features(const Tensor& images, const Pass& pass = {}) const;  // -> (B, C, H/32, W/32)
  Tensor forward_head(const Tensor& x, const Pass& pass = {}) const;           // -> logits (B, classes)
};

/// What the registry knows of the family; see models/family/family.h.
struct RegNetFamily {
  using Config = RegNetConfig;
  using Model = RegNet;
  static constexpr const char* name = "regnet";
  static constexpr bool takes_any_size = true;
  static constexpr LayerNames layers{.block = R"(s\d+\.b\d+)", .head = "head"};
  static std::vector<std::string> no_decay() { return {}; }
  static std::vector<LayerSummary> summarize(const RegNet& model);  // for images of config.image pixels
  static std::vector<CatalogRow<RegNetConfig>> catalog();
};

}  // namespace vitrine
