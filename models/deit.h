// The distilled DeiT of Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention":
// a ViT with a second token, whose head learns from a teacher. (The plain DeiT is a ViT trained by another recipe.)
#pragma once

#include <string>
#include <vector>

#include "models/vit.h"

namespace vitrine {

/// Which head answers at inference: the mean of both heads' logits, as the released code has it, or one alone (table 3).
enum class DistilledHead { both, classes, distillation };

struct DistilledVisionTransformer {
  Parameter cls_token;   // (1, 1, D)
  Parameter dist_token;  // (1, 1, D)
  Parameter pos_embed;   // (1, N + 2, D)
  PatchEmbed patch_embed;
  std::vector<TransformerBlock> blocks;
  LayerNorm norm;
  std::optional<Linear> head;       // on the class token
  std::optional<Linear> head_dist;  // on the distillation token
  Dropout pos_drop;
  ViTConfig config;
  DistilledHead answers = DistilledHead::both;

  static void fields(auto& self, auto&& field) {
    field("cls_token", self.cls_token);
    field("dist_token", self.dist_token);
    field("pos_embed", self.pos_embed);
    field("patch_embed", self.patch_embed);
    field("blocks", self.blocks);
    field("norm", self.norm);
    field("head", self.head);
    field("head_dist", self.head_dist);
    field("pos_drop", self.pos_drop);
    field("config", self.config);
    field("answers", self.answers);
  }

  /// Weights as timm draws them. `config` must have a class token and pool "token".
  static DistilledVisionTransformer make(const ViTConfig& config, Initializer init,
                                         DistilledHead answers = DistilledHead::both);

  struct Logits {
    Tensor classes, distillation;  // (B, classes) each
  };
  Logits both_heads(const Tensor& images, const Pass& pass = {}) const;        // for training
  Tensor operator()(const Tensor& images, const Pass& pass = {}) const;        // (B, C, H, W) -> logits (B, classes)
  Tensor forward_features(const Tensor& images, const Pass& pass = {}) const;  // -> tokens (B, N + 2, D)
};

/// Parameters that timm exempts from weight decay, besides those of one dim. (The paper's runs decayed dist_token.)
const std::vector<std::string>& deit_no_decay();

}  // namespace vitrine
