// The Vision Transformer: how it is put together, and its forward pass.
#include "models/vit.h"

#include <cmath>

#include "nn/run_block.h"

namespace vitrine {
namespace {

void check_config(const ViTConfig& c) {
  VT_CHECK(c.patch > 0 && c.image > 0 && c.image % c.patch == 0,
           "vit: image size {} is not a multiple of patch size {}", c.image, c.patch);
  VT_CHECK(c.heads > 0 && c.dim > 0 && c.dim % c.heads == 0, "vit: dim {} is not a multiple of heads {}", c.dim,
           c.heads);
  VT_CHECK(
      c.channels > 0 && c.depth > 0 && c.classes >= 0 && c.representation >= 0 && c.mlp_ratio > 0,
      "vit: channels {}, depth {}, classes {}, representation {}, mlp_ratio {}: expected channels, depth, mlp_ratio "
      "> 0 and classes, representation >= 0",
      c.channels, c.depth, c.classes, c.representation, c.mlp_ratio);
  VT_CHECK(c.drop_rate >= 0 && c.drop_rate < 1 && c.drop_path_rate >= 0 && c.drop_path_rate < 1,
           "vit: drop_rate {} and drop_path_rate {}, expected 0 <= rate < 1", c.drop_rate, c.drop_path_rate);
  VT_CHECK(c.global_pool == "token" || c.global_pool == "avg", "vit: global_pool is \"{}\", expected token or avg",
           c.global_pool);
  VT_CHECK(c.class_token || c.global_pool == "avg",
           "vit: global_pool \"token\" without a class token, expected \"avg\" or class_token = true");
  VT_CHECK(c.weight_init == "timm" || c.weight_init == "jax", "vit: weight_init is \"{}\", expected timm or jax",
           c.weight_init);
}

/// Of block i: 0 for the first, the full rate for the last, linear in between.
double drop_path_rate(const ViTConfig& config, int block) {
  return config.depth > 1 ? config.drop_path_rate * block / (config.depth - 1) : 0;
}

/// The start of the paper's code (google-research/vision_transformer, vit_jax/models_vit.py) instead of timm's. The rest, such
/// as `proj`, starts by LinearScheme::xavier_uniform.
void start_as_in_the_papers_code(VisionTransformer& model, Initializer& init) {
  const ViTConfig& c = model.config;
  if (model.cls_token) model.cls_token = init.constant({1, 1, c.dim}, 0);
  model.pos_embed = init.normal({1, c.tokens(), c.dim}, 0.02);
  PatchConvolution& patches = model.patch_embed.proj;
  patches.weight = init.lecun_normal(patches.weight.shape(), c.channels * c.patch * c.patch);
  patches.bias = init.constant({c.dim}, 0);
  for (TransformerBlock& block : model.blocks) {
    // There q, k and v are three layers (D, D), so that Glorot's sqrt(6 / (in + out)) is sqrt(6 / 2D) for each.
    block.attn.qkv.weight = init.uniform({3 * c.dim, c.dim}, std::sqrt(3 / static_cast<double>(c.dim)));
    for (Linear* layer : {&block.mlp.fc1, &block.mlp.fc2}) layer->bias = init.normal(layer->bias->shape(), 1e-6);
  }
  if (model.pre_logits) {
    Parameter& weight = model.pre_logits->fc.weight;
    weight = init.lecun_normal(weight.shape(), c.dim);
  }
  if (model.head) model.head->weight = init.constant(model.head->weight.shape(), 0);
}

}  // namespace

TransformerBlock TransformerBlock::make(const ViTConfig& config, double drop_path_rate, Initializer& init) {
  VT_CHECK(drop_path_rate >= 0 && drop_path_rate < 1, "vit: drop_path_rate is {}, expected 0 <= rate < 1",
           drop_path_rate);
  const auto hidden = static_cast<std::int64_t>(static_cast<double>(config.dim) * config.mlp_ratio);
  return {.norm1 = LayerNorm::make(config.dim, init, config.norm_epsilon),
          .attn = MultiHeadAttention::make(config.dim, config.heads, init, config.drop_rate),
          .norm2 = LayerNorm::make(config.dim, init, config.norm_epsilon),
          .mlp = Mlp::make(config.dim, hidden, init, config.drop_rate),
          .drop_path = {drop_path_rate}};
}

Tensor TransformerBlock::operator()(const Tensor& x, const Pass& pass) const {
  // Equation 2: z' = MSA(LN(z)) + z, and with it LN(z')
  const auto [y, norm] = norm2.after_adding(x, drop_path(attn(norm1(x), pass), pass));
  return y + drop_path(mlp(norm, pass), pass);  // equation 3: MLP(LN(z')) + z'
}

Tensor TanhLayer::operator()(const Tensor& x) const { return tanh(fc(x)); }

VisionTransformer VisionTransformer::make(const ViTConfig& config, Initializer init) {
  check_config(config);
  const bool jax = config.weight_init == "jax";
  init.linear_scheme = jax ? LinearScheme::xavier_uniform : LinearScheme::truncated_normal;
  VisionTransformer model;
  model.config = config;
  if (config.class_token) model.cls_token = init.normal({1, 1, config.dim}, 1e-6);
  model.pos_embed = init.truncated_normal({1, config.tokens(), config.dim}, 0.02);
  model.pos_drop = {config.drop_rate};
  model.patch_embed = PatchEmbed::make(config.channels, config.patch, config.dim, init);
  for (int i = 0; i < config.depth; ++i) {
    model.blocks.push_back(TransformerBlock::make(config, drop_path_rate(config, i), init));
  }
  auto& last_norm = config.global_pool == "avg" ? model.fc_norm : model.norm;
  last_norm = LayerNorm::make(config.dim, init, config.norm_epsilon);
  if (config.representation > 0) model.pre_logits = TanhLayer{Linear::make(config.dim, config.representation, init)};
  const std::int64_t features = config.representation > 0 ? config.representation : config.dim;
  if (config.classes > 0) model.head = Linear::make(features, config.classes, init);
  if (jax) start_as_in_the_papers_code(model, init);
  return model;
}

Tensor VisionTransformer::forward_features(const Tensor& images, const Pass& pass) const {
  VT_CHECK(images.dim() == 4 && images.size(1) == config.channels && images.size(2) == config.image &&
               images.size(3) == config.image,
           "vit: images have shape {}, expected (B, {}, {}, {})", to_string(images.shape()), config.channels,
           config.image, config.image);
  Tensor x = patch_embed(images);  // x_p E of equation 1: (B, N, D)
  if (cls_token) {
    x = concat({expand(for_input(*cls_token, x), {x.size(0), 1, config.dim}), x}, 1);  // (B, N + 1, D)
  }
  x = pos_drop(x + for_input(pos_embed, x), pass);  // z_0 = [x_class; x_p E] + E_pos
  for (const TransformerBlock& block : blocks) x = run_block(block, x, pass);
  return norm ? (*norm)(x) : x;  // equation 4: y = LN(z_L)
}

Tensor VisionTransformer::forward_head(const Tensor& tokens) const {
  Tensor x;  // (B, D)
  if (config.global_pool == "token")
    x = select(tokens, 1, 0);
  else
    x = mean(config.class_token ? slice(tokens, 1, 1, config.tokens()) : tokens, {1});
  if (fc_norm) x = (*fc_norm)(x);
  if (pre_logits) x = (*pre_logits)(x);
  return head ? (*head)(x) : x;
}

Tensor VisionTransformer::operator()(const Tensor& images, const Pass& pass) const {
  return forward_head(forward_features(images, pass));
}

const std::vector<std::string>& vit_no_decay() {
  static const std::vector<std::string> names{"pos_embed", "cls_token"};
  return names;
}

}  // namespace vitrine
