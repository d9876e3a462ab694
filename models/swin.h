// The Swin Transformer of Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using
// Shifted Windows", with timm's names, sizes and initialisation. Feature maps are (B, H, W, C)
// throughout.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/family/family.h"
#include "nn/layers.h"

namespace vitrine {

/// Where tokens are is told to attention by a bias for every offset between two tokens ("relative",
/// the paper's choice), by a vector added to every patch ("absolute"), by both, or not at all
/// ("none"): table 4 of the paper.
enum class SwinPosition { none, absolute, relative, both };

void from_text(const std::string& text, SwinPosition& position);

/// Sizes and rates. The default is Swin-T at 224 pixels.
struct SwinConfig {
  std::int64_t image = 224;  // pixels on a side
  std::int64_t patch = 4;    // pixels on a side; divides `image`
  std::int64_t channels = 3;
  std::int64_t classes = 1000;  // 0: no head, the pooled features are the result
  std::int64_t dim = 96;  // C of the first stage; every later stage has twice as many on a quarter of the positions
  std::vector<int> depths{2, 2, 6, 2};
  std::vector<int> heads{3, 6, 12, 24};
  std::int64_t window = 7;  // positions on a side
  double mlp_ratio = 4;
  bool shift = true;  // false: every block looks at the same windows (the paper's ablation)
  SwinPosition position = SwinPosition::relative;
  double drop_rate = 0;         // after the position embedding and every dense layer but qkv
  double drop_path_rate = 0.1;  // of the last block; grows linearly from 0 over all blocks of all stages
  double norm_epsilon = 1e-5;

  std::int64_t grid() const { return image / patch; }  // positions on a side of the first stage

  static void options(auto& self, auto&& option) {
    classifier_options(self, option);
    option(&ModelOptions::patch_size, self.patch, "pixels on a side of a patch");
    option(&ModelOptions::embed_dim, self.dim, "channels of the first stage, doubled from stage to stage");
    option(&ModelOptions::depths, self.depths, "blocks of every stage, such as \"2,2,6,2\"");
    option(&ModelOptions::num_heads, self.heads, "heads of attention in every stage, such as \"3,6,12,24\"");
    option(&ModelOptions::window_size, self.window, "patches on a side of a window");
    option(&ModelOptions::mlp_ratio, self.mlp_ratio, "hidden size of an MLP / size of a token");
    option(&ModelOptions::norm_eps, self.norm_epsilon, "epsilon of LayerNorm");
    option(&ModelOptions::shift, self.shift, "true, or false: the same windows in every block");
    option(&ModelOptions::position, self.position, "none, absolute, relative or both");
    option(&ModelOptions::drop_path_rate, self.drop_path_rate, "rate of stochastic depth in the last block");
  }
};

/// For tokens i and j of a window of w x w positions the row of the bias table, ((y_i - y_j) + w -
/// 1) (2 w - 1) + (x_i - x_j) + w - 1. i64 (w^2 w^2), row by row. Section 3.2, "relative position
/// bias".
Tensor relative_position_index(std::int64_t window);

/// What hides from each other the tokens that only the cyclic shift has brought into one window:
/// (windows, w^2, w^2) f32, 0 or -100. The map has `side` x `side` positions, a multiple of w.
/// Section 3.2, figure 4.
Tensor shifted_window_mask(std::int64_t side, std::int64_t window, std::int64_t shift);

/// Attention within windows of w x w tokens.
struct WindowAttention {
  std::optional<Parameter> relative_position_bias_table;  // ((2 w - 1)^2, heads)
  Linear qkv;                                             // C -> 3 C
  Linear proj;                                            // C -> C
  int heads = 1;
  std::int64_t window = 7;
  Dropout proj_drop;
  Tensor index;  // relative_position_index(window)

  static void fields(auto& self, auto&& field) {
    field("relative_position_bias_table", self.relative_position_bias_table);
    field("qkv", self.qkv);
    field("proj", self.proj);
    field("heads", self.heads);
    field("window", self.window);
    field("proj_drop", self.proj_drop);
    field("index", self.index);
  }
  static WindowAttention make(const SwinConfig& config, std::int64_t dim, int heads, std::int64_t window,
                              Initializer& init);
  /// x (B windows, w^2, C), the windows of an image one after the other; mask (windows, w^2, w^2)
  /// or undefined.
  Tensor operator()(const Tensor& x, const Tensor& mask, const Pass& pass) const;

 private:
  OptionalTensor bias(const Tensor& mask, const Tensor& x) const;
};

/// x += attention in (shifted) windows of norm1 x, x += mlp(norm2 x). Section 3.2, equation 3.
struct SwinBlock {
  LayerNorm norm1;
  WindowAttention attn;
  LayerNorm norm2;
  Mlp mlp;
  DropPath drop_path;      // drawn anew for each of the two branches
  std::int64_t shift = 0;  // positions up and to the left
  Tensor mask;             // undefined without a shift

  static void fields(auto& self, auto&& field) {
    field("norm1", self.norm1);
    field("attn", self.attn);
    field("norm2", self.norm2);
    field("mlp", self.mlp);
    field("drop_path", self.drop_path);
    field("shift", self.shift);
    field("mask", self.mask);
  }
  static SwinBlock make(const SwinConfig& config, std::int64_t side, std::int64_t dim, int heads, bool shifted,
                        double drop_path_rate, Initializer& init);
  Tensor operator()(const Tensor& x, const Pass& pass) const;  // (B, H, W, C) -> (B, H, W, C)

 private:
  Tensor attend(const Tensor& x, const Pass& pass) const;
};

/// Four neighbours become one position: LayerNorm of their 4 C channels, then a linear layer to 2
/// C. Section 3.1.
struct PatchMerging {
  LayerNorm norm;
  Linear reduction;  // 4 C -> 2 C, no bias

  static void fields(auto& self, auto&& field) {
    field("norm", self.norm);
    field("reduction", self.reduction);
  }
  static PatchMerging make(const SwinConfig& config, std::int64_t dim, Initializer& init);
  Tensor operator()(const Tensor& x) const;  // (B, H, W, C) -> (B, H/2, W/2, 2 C); odd sides are padded with zeros
};

struct SwinStage {
  std::optional<PatchMerging> downsample;  // at the start of every stage but the first
  std::vector<SwinBlock> blocks;

  static void fields(auto& self, auto&& field) {
    field("downsample", self.downsample);
    field("blocks", self.blocks);
  }
  Tensor operator()(const Tensor& x, const Pass& pass) const;
};

/// A patch embedding with a norm behind it.
struct SwinPatchEmbed {
  PatchConvolution proj;
  LayerNorm norm;

  static void fields(auto& self, auto&& field) {
    field("proj", self.proj);
    field("norm", self.norm);
  }
  Tensor operator()(const Tensor& images) const { return norm(proj(images)); }  // (B, 3, H, W) -> (B, N, C)
};

/// The head under timm's name for it.
struct SwinHead {
  Linear fc;

  static void fields(auto& self, auto&& field) { field("fc", self.fc); }
};

struct SwinTransformer {
  std::optional<Parameter> absolute_pos_embed;  // (1, H, W, C)
  SwinPatchEmbed patch_embed;
  std::vector<SwinStage> layers;
  LayerNorm norm;
  std::optional<SwinHead> head;
  Dropout pos_drop;
  SwinConfig config;

  static void fields(auto& self, auto&& field) {
    field("absolute_pos_embed", self.absolute_pos_embed);
    field("patch_embed", self.patch_embed);
    field("layers", self.layers);
    field("norm", self.norm);
    field("head", self.head);
    field("pos_drop", self.pos_drop);
    field("config", self.config);
  }

  /// Weights as timm draws them. Throws Error where the configuration contradicts itself.
  static SwinTransformer make(const SwinConfig& config, Initializer init);

  Tensor operator()(const Tensor& images, const Pass& pass = {}) const;        // (B, 3, H, W) -> logits (B, classes)
  Tensor forward_features(const Tensor& images, const Pass& pass = {}) const;  // -> (B, H/32, W/32, 8 C)
  Tensor forward_head(const Tensor& x) const;                                  // -> logits (B, classes)
};

/// What the registry knows of the family; see models/family/family.h.
struct SwinFamily {
  using Config = SwinConfig;
  using Model = SwinTransformer;
  static constexpr const char* name = "swin";
  static constexpr bool takes_any_size = false;
  static constexpr LayerNames layers{
      .block = R"(layers\.\d+\.blocks\.\d+)", .head = "head", .joint = R"(layers\.\d+\.downsample)"};
  static std::vector<std::string> no_decay();
  static std::vector<LayerSummary> summarize(const SwinTransformer& model);
  static std::vector<CatalogRow<SwinConfig>> catalog();
};

}  // namespace vitrine
