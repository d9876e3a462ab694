// The Vision Transformer of Dosovitskiy et al. 2021, "An image is worth 16x16 words", with timm's
// names and initialisation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/family/family.h"
#include "nn/layers.h"

namespace vitrine {

/// Sizes and rates. The default is ViT-Ti/16 at 224 pixels.
struct ViTConfig {
  std::int64_t image = 224;  // pixels on a side
  std::int64_t patch = 16;   // pixels on a side; divides `image`
  std::int64_t channels = 3;
  std::int64_t classes = 1000;  // 0: no head, the pooled features are the result
  std::int64_t dim = 192;       // D, a multiple of `heads`
  int depth = 12;
  int heads = 3;
  double mlp_ratio = 4;  // hidden size of the MLP / D
  bool class_token = true;
  std::string global_pool = "";          // "token" or "avg", see pool(); empty: "token" where there is a class token
  std::int64_t representation_size = 0;  // of a tanh layer before the head; 0 = none
  double drop_rate = 0;                  // dropout after the position embedding and every dense layer but qkv
  double drop_path_rate = 0;             // of the last block; block i has i / (depth - 1) of it
  double norm_epsilon = 1e-6;
  std::string weight_init = "timm";  // how weights start: as in timm, or "jax": as in the paper's own code

  std::int64_t grid() const { return image / patch; }
  std::int64_t patches() const { return grid() * grid(); }                   // N
  std::int64_t tokens() const { return patches() + (class_token ? 1 : 0); }  // N + 1 with the class token
  /// What the head sees: "token", the class token after `norm`; or "avg", the mean of the patches,
  /// then `fc_norm`.
  std::string pool() const { return !global_pool.empty() ? global_pool : class_token ? "token" : "avg"; }

  static void options(auto& self, auto&& option) {
    option(&ModelOptions::patch_size, self.patch, "pixels on a side of a patch");
    encoder_options(self, option);
  }
  /// All but the patches, which a hybrid has fixed.
  static void encoder_options(auto& self, auto&& option) {
    classifier_options(self, option);
    option(&ModelOptions::embed_dim, self.dim, "size of a token, a multiple of num_heads");
    option(&ModelOptions::depth, self.depth, "number of blocks");
    option(&ModelOptions::num_heads, self.heads, "heads of attention");
    option(&ModelOptions::mlp_ratio, self.mlp_ratio, "hidden size of an MLP / size of a token");
    option(&ModelOptions::class_token, self.class_token, "whether there is a class token");
    option(&ModelOptions::global_pool, self.global_pool, "token (the class token) or avg (the mean of the patches)");
    option(&ModelOptions::representation_size, self.representation_size, "size of a tanh layer before the head");
    option(&ModelOptions::weight_init, self.weight_init, "timm, or jax: as in the ViT paper's own code");
    option(&ModelOptions::norm_eps, self.norm_epsilon, "epsilon of LayerNorm");
    option(&ModelOptions::drop_path_rate, self.drop_path_rate, "rate of stochastic depth in the last block");
  }
};

/// A size of the paper's table 1 or of DeiT's, by timm's name for it ("tiny", "small", "base",
/// "large", "huge"). Images of 32 pixels are CIFAR's, with ten classes.
ViTConfig vit_config(const std::string& size, std::int64_t patch, std::int64_t image);

/// One pre-norm block: x += attention(norm1 x), x += mlp(norm2 x). Section 3.1, equations 2 and 3.
struct TransformerBlock {
  LayerNorm norm1;
  MultiHeadAttention attn;
  LayerNorm norm2;
  Mlp mlp;
  DropPath drop_path;  // drawn anew for each of the two branches

  static void fields(auto& self, auto&& field) {
    field("norm1", self.norm1);
    field("attn", self.attn);
    field("norm2", self.norm2);
    field("mlp", self.mlp);
    field("drop_path", self.drop_path);
  }
  static TransformerBlock make(const ViTConfig& config, double drop_path_rate, Initializer& init);
  Tensor operator()(const Tensor& x, const Pass& pass) const;  // (B, N, D) -> (B, N, D)
};

/// The representation layer: tanh of a linear layer, used in the paper's pre-training.
struct TanhLayer {
  Linear fc;

  static void fields(auto& self, auto&& field) { field("fc", self.fc); }
  Tensor operator()(const Tensor& x) const;
};

struct VisionTransformer {
  std::optional<Parameter> cls_token;  // (1, 1, D)
  Parameter pos_embed;                 // (1, tokens, D)
  PatchEmbed patch_embed;
  std::vector<TransformerBlock> blocks;
  std::optional<LayerNorm> norm;     // with pool "token"
  std::optional<LayerNorm> fc_norm;  // with pool "avg"
  std::optional<TanhLayer> pre_logits;
  std::optional<Linear> head;
  Dropout pos_drop;
  ViTConfig config;

  static void fields(auto& self, auto&& field) {
    field("cls_token", self.cls_token);
    field("pos_embed", self.pos_embed);
    field("patch_embed", self.patch_embed);
    field("blocks", self.blocks);
    field("norm", self.norm);
    field("fc_norm", self.fc_norm);
    field("pre_logits", self.pre_logits);
    field("head", self.head);
    field("pos_drop", self.pos_drop);
    field("config", self.config);
  }

  /// Weights as `config.weight_init` says. Throws Error where the configuration contradicts itself.
  static VisionTransformer make(const ViTConfig& config, Initializer init);

  Tensor operator()(const Tensor& images, const Pass& pass = {}) const;        // (B, C, H, W) -> logits (B, classes)
  Tensor forward_features(const Tensor& images, const Pass& pass = {}) const;  // -> tokens (B, tokens, D)
  Tensor encode(Tensor x, const Pass& pass) const;                             // the same from [x_class; x_p E] on
  Tensor forward_head(const Tensor& tokens) const;                             // -> logits (B, classes)
};

/// A token (1, 1, D) for every image: (B, 1, D), in the dtype of the patches (B, N, D).
Tensor expand_token(const Parameter& token, const Tensor& patches);

/// The plain DeiTs, which are ViTs: deit_<size>_patch<P>_<image>.
std::vector<CatalogRow<ViTConfig>> plain_deits();

/// Parameters that timm and DeiT exempt from weight decay, besides those of one dim.
std::vector<std::string> vit_no_decay();

/// What the registry knows of the family; see models/family/family.h.
struct ViTFamily {
  using Config = ViTConfig;
  using Model = VisionTransformer;
  static constexpr const char* name = "vit";
  static constexpr bool takes_any_size = false;
  static constexpr LayerNames layers{.block = R"(blocks\.\d+)", .head = "head|fc_norm|pre_logits"};
  static std::vector<std::string> no_decay() { return vit_no_decay(); }
  static std::vector<LayerSummary> summarize(const VisionTransformer& model);
  static std::vector<CatalogRow<ViTConfig>> catalog();
};

}  // namespace vitrine
