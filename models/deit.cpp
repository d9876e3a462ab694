// The distilled DeiT: two tokens before the patches, two heads behind them.
#include "models/deit.h"

#include <algorithm>

#include "models/family/check_images.h"
#include "models/family/summary_rows.h"

namespace vitrine {

DistilledVisionTransformer DistilledVisionTransformer::make(const DistilledConfig& config, Initializer init) {
  const ViTConfig& c = config.vit;
  VT_CHECK(c.class_token && c.pool() == "token" && c.representation_size == 0,
           "deit: class_token {}, global_pool \"{}\", representation_size {}: expected true, token and 0 with "
           "distillation",
           c.class_token, c.pool(), c.representation_size);
  VT_CHECK(c.weight_init == "timm", "deit: weight_init is \"{}\", expected timm", c.weight_init);
  DistilledVisionTransformer model;
  model.vit = VisionTransformer::make(c, init);  // a copy of `init`: what follows draws from the beginning again
  init.linear_scheme = LinearScheme::truncated_normal;
  model.dist_token = init.truncated_normal({1, 1, c.dim}, 0.02);
  model.vit.pos_embed = init.truncated_normal({1, c.patches() + 2, c.dim}, 0.02);
  if (c.classes > 0) model.head_dist = Linear::make(c.dim, c.classes, init);
  model.inference_head = config.inference_head;
  return model;
}

Tensor DistilledVisionTransformer::forward_features(const Tensor& images, const Pass& pass) const {
  check_images("deit", images, vit.config.channels, vit.config.image);
  Tensor x = vit.patch_embed(images);                                                // (B, N, D)
  x = concat({expand_token(*vit.cls_token, x), expand_token(dist_token, x), x}, 1);  // (B, N + 2, D)
  return vit.encode(std::move(x), pass);
}

DistilledVisionTransformer::Logits DistilledVisionTransformer::both_heads(const Tensor& images,
                                                                          const Pass& pass) const {
  const Tensor tokens = forward_features(images, pass);
  const Tensor of_class = select(tokens, 1, 0), of_teacher = select(tokens, 1, 1);
  return {vit.head ? (*vit.head)(of_class) : of_class, head_dist ? (*head_dist)(of_teacher) : of_teacher};
}

Tensor DistilledVisionTransformer::operator()(const Tensor& images, const Pass& pass) const {
  const Logits logits = both_heads(images, pass);
  if (inference_head == DistilledHead::classes) return logits.classes;
  if (inference_head == DistilledHead::distillation) return logits.distillation;
  return (logits.classes + logits.distillation) * 0.5;
}

void from_text(const std::string& text, DistilledHead& head) {
  VT_CHECK(text == "both" || text == "class" || text == "distillation",
           "create_model: distilled_head is \"{}\", expected both, class or distillation", text);
  head = text == "both" ? DistilledHead::both : text == "class" ? DistilledHead::classes : DistilledHead::distillation;
}

// ---- What the registry asks ----

/// As timm has it. (The paper's runs decayed dist_token.)
std::vector<std::string> DistilledFamily::no_decay() { return {"pos_embed", "cls_token", "dist_token"}; }

std::vector<LayerSummary> DistilledFamily::summarize(const DistilledVisionTransformer& model) {
  std::vector<LayerSummary> rows = ViTFamily::summarize(model.vit);
  const auto cls_token = std::ranges::find(rows, "cls_token", &LayerSummary::name);
  rows.insert(cls_token + 1, {"dist_token", cls_token->output, parameters_of(model.dist_token), 0});
  if (model.head_dist) rows.push_back(linear_row("head_dist", *model.head_dist, {}));
  return rows;
}

/// A distilled one for each plain one: deit_<size>_distilled_patch<P>_<image>.
std::vector<CatalogRow<DistilledConfig>> DistilledFamily::catalog() {
  std::vector<CatalogRow<DistilledConfig>> rows;
  for (auto& [name, config, pretrained] : plain_deits()) {
    name.insert(name.find("_patch"), "_distilled");
    pretrained.classifier = {"head", "head_dist"};
    rows.push_back({name, {.vit = config}, pretrained});
  }
  return rows;
}

}  // namespace vitrine
