// The distilled DeiT of Touvron et al. 2021, "Training data-efficient image transformers &
// distillation through attention": a ViT with a second token, whose head learns from a teacher.
// (The plain DeiT is a ViT trained by another recipe.)
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/vit.h"

namespace vitrine {

/// Which head gives the logits at inference: the mean of both, as the released code has it, or one
/// alone (table 3).
enum class DistilledHead { both, classes, distillation };

/// From "both", "class" or "distillation".
void from_text(const std::string& text, DistilledHead& head);

struct DistilledConfig {
  ViTConfig vit;  // with a class token, pool "token" and no representation layer
  DistilledHead inference_head = DistilledHead::both;

  static void options(auto& self, auto&& option) {
    ViTConfig::options(self.vit, option);
    option(&ModelOptions::distilled_head, self.inference_head,
           "both, class or distillation: whose logits inference takes");
  }
};

struct DistilledVisionTransformer {
  VisionTransformer vit;            // with position embeddings for N + 2 tokens
  Parameter dist_token;             // (1, 1, D)
  std::optional<Linear> head_dist;  // on the distillation token
  DistilledHead inference_head = DistilledHead::both;

  /// The ViT's fields under no name of its own, and each of ours behind its counterpart, as in
  /// timm.
  static void fields(auto& self, auto&& field) {
    VisionTransformer::fields(self.vit, [&](std::string_view name, auto& member) {
      field(name, member);
      if (name == "cls_token") field("dist_token", self.dist_token);
      if (name == "head") field("head_dist", self.head_dist);
    });
    field("inference_head", self.inference_head);
  }

  /// Weights as timm draws them.
  static DistilledVisionTransformer make(const DistilledConfig& config, Initializer init);

  struct Logits {
    Tensor classes, distillation;  // (B, classes) each
  };
  Logits both_heads(const Tensor& images, const Pass& pass = {}) const;        // for training
  Tensor operator()(const Tensor& images, const Pass& pass = {}) const;        // (B, C, H, W) -> logits (B, classes)
  Tensor forward_features(const Tensor& images, const Pass& pass = {}) const;  // -> tokens (B, N + 2, D)
};

/// What the registry knows of the family; see models/family/family.h.
struct DistilledFamily {
  using Config = DistilledConfig;
  using Model = DistilledVisionTransformer;
  static constexpr const char* name = "distilled deit";
  static constexpr bool takes_any_size = false;
  static constexpr LayerNames layers{.block = ViTFamily::layers.block, .head = "head|head_dist"};
  static std::vector<std::string> no_decay();
  static std::vector<LayerSummary> summarize(const DistilledVisionTransformer& model);
  static std::vector<CatalogRow<DistilledConfig>> catalog();
};

}  // namespace vitrine
