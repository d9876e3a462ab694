// The distilled DeiT: two tokens before the patches, two heads behind them.
#include "models/deit.h"

#include "nn/run_block.h"

namespace vitrine {

DistilledVisionTransformer DistilledVisionTransformer::make(const ViTConfig& config, Initializer init,
                                                            DistilledHead answers) {
  VT_CHECK(config.class_token && config.global_pool == "token" && config.representation == 0,
           "deit: class_token {}, global_pool \"{}\", representation {}: expected true, token and 0 with distillation",
           config.class_token, config.global_pool, config.representation);
  VT_CHECK(config.weight_init == "timm", "deit: weight_init is \"{}\", expected timm", config.weight_init);
  VisionTransformer plain = VisionTransformer::make(config, init);  // checks, and draws what both have in common
  init.linear_scheme = LinearScheme::truncated_normal;
  DistilledVisionTransformer model;
  model.config = config;
  model.answers = answers;
  model.cls_token = std::move(*plain.cls_token);
  model.dist_token = init.truncated_normal({1, 1, config.dim}, 0.02);
  model.pos_embed = init.truncated_normal({1, config.patches() + 2, config.dim}, 0.02);
  model.patch_embed = std::move(plain.patch_embed);
  model.blocks = std::move(plain.blocks);
  model.norm = std::move(*plain.norm);
  model.head = std::move(plain.head);
  if (config.classes > 0) model.head_dist = Linear::make(config.dim, config.classes, init);
  model.pos_drop = {config.drop_rate};
  return model;
}

Tensor DistilledVisionTransformer::forward_features(const Tensor& images, const Pass& pass) const {
  VT_CHECK(images.dim() == 4 && images.size(1) == config.channels && images.size(2) == config.image &&
               images.size(3) == config.image,
           "deit: images have shape {}, expected (B, {}, {}, {})", to_string(images.shape()), config.channels,
           config.image, config.image);
  const Tensor patches = patch_embed(images);  // (B, N, D)
  const Shape one{patches.size(0), 1, config.dim};
  Tensor x =
      concat({expand(for_input(cls_token, patches), one), expand(for_input(dist_token, patches), one), patches}, 1);
  x = pos_drop(x + for_input(pos_embed, x), pass);
  for (const TransformerBlock& block : blocks) x = run_block(block, x, pass);
  return norm(x);
}

DistilledVisionTransformer::Logits DistilledVisionTransformer::both_heads(const Tensor& images,
                                                                          const Pass& pass) const {
  const Tensor tokens = forward_features(images, pass);
  const Tensor of_class = select(tokens, 1, 0), of_teacher = select(tokens, 1, 1);
  return {head ? (*head)(of_class) : of_class, head_dist ? (*head_dist)(of_teacher) : of_teacher};
}

Tensor DistilledVisionTransformer::operator()(const Tensor& images, const Pass& pass) const {
  const Logits logits = both_heads(images, pass);
  if (answers == DistilledHead::classes) return logits.classes;
  if (answers == DistilledHead::distillation) return logits.distillation;
  return (logits.classes + logits.distillation) * 0.5;
}

const std::vector<std::string>& deit_no_decay() {
  static const std::vector<std::string> names{"pos_embed", "cls_token", "dist_token"};
  return names;
}

}  // namespace vitrine
