// The Vision Transformer: how it is put together, and its forward pass.
#include "models/vit.h"

#include <cmath>

#include "models/family/check_images.h"
#include "models/family/summary_rows.h"
#include "nn/run_block.h"

namespace vitrine {
namespace {

void check_config(const ViTConfig& config);
void init_weights_jax(VisionTransformer& model, Initializer& init);

/// Of block i: 0 for the first, the full rate for the last, linear in between.
double drop_path_rate(const ViTConfig& config, int block) {
  return config.depth > 1 ? config.drop_path_rate * block / (config.depth - 1) : 0;
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
  const auto [y, norm] = norm2.add_then_norm(x, drop_path(attn(norm1(x), pass), pass));
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
  auto& last_norm = config.pool() == "avg" ? model.fc_norm : model.norm;
  last_norm = LayerNorm::make(config.dim, init, config.norm_epsilon);
  if (config.representation_size > 0)
    model.pre_logits = TanhLayer{Linear::make(config.dim, config.representation_size, init)};
  const std::int64_t features = config.representation_size > 0 ? config.representation_size : config.dim;
  if (config.classes > 0) model.head = Linear::make(features, config.classes, init);
  if (jax) init_weights_jax(model, init);
  return model;
}

Tensor expand_token(const Parameter& token, const Tensor& patches) {
  return expand(for_input(token, patches), {patches.size(0), 1, patches.size(2)});
}

Tensor VisionTransformer::forward_features(const Tensor& images, const Pass& pass) const {
  check_images("vit", images, config.channels, config.image);
  Tensor x = patch_embed(images);                                  // x_p E of equation 1: (B, N, D)
  if (cls_token) x = concat({expand_token(*cls_token, x), x}, 1);  // (B, N + 1, D)
  return encode(std::move(x), pass);
}

Tensor VisionTransformer::encode(Tensor x, const Pass& pass) const {
  x = pos_drop(x + for_input(pos_embed, x), pass);  // z_0 = [x_class; x_p E] + E_pos
  for (const TransformerBlock& block : blocks) x = run_block(block, x, pass);
  return norm ? (*norm)(x) : x;  // equation 4: y = LN(z_L)
}

Tensor VisionTransformer::forward_head(const Tensor& tokens) const {
  Tensor x;  // (B, D)
  if (config.pool() == "token")
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

// ---- What is accepted, and how the paper's own code starts ----

namespace {

void check_config(const ViTConfig& c) {
  VT_CHECK(c.patch > 0 && c.image > 0 && c.image % c.patch == 0,
           "vit: image size {} is not a multiple of patch size {}", c.image, c.patch);
  VT_CHECK(c.heads > 0 && c.dim > 0 && c.dim % c.heads == 0, "vit: dim {} is not a multiple of heads {}", c.dim,
           c.heads);
  VT_CHECK(c.channels > 0 && c.depth > 0 && c.classes >= 0 && c.representation_size >= 0 && c.mlp_ratio > 0,
           "vit: channels {}, depth {}, classes {}, representation_size {}, mlp_ratio {}: expected channels, depth, "
           "mlp_ratio "
           "> 0 and classes, representation_size >= 0",
           c.channels, c.depth, c.classes, c.representation_size, c.mlp_ratio);
  VT_CHECK(c.drop_rate >= 0 && c.drop_rate < 1 && c.drop_path_rate >= 0 && c.drop_path_rate < 1,
           "vit: drop_rate {} and drop_path_rate {}, expected 0 <= rate < 1", c.drop_rate, c.drop_path_rate);
  VT_CHECK(c.pool() == "token" || c.pool() == "avg", "vit: global_pool is \"{}\", expected token or avg", c.pool());
  VT_CHECK(c.class_token || c.pool() == "avg",
           "vit: global_pool \"token\" without a class token, expected \"avg\" or class_token = true");
  VT_CHECK(c.weight_init == "timm" || c.weight_init == "jax", "vit: weight_init is \"{}\", expected timm or jax",
           c.weight_init);
}

/// The initial weights of the paper's own code (google-research/vision_transformer,
/// vit_jax/models_vit.py) instead of timm's. What is not named here, such as `proj`, is Glorot's by
/// LinearScheme::xavier_uniform.
void init_weights_jax(VisionTransformer& model, Initializer& init) {
  const ViTConfig& c = model.config;
  if (model.cls_token) model.cls_token = init.constant({1, 1, c.dim}, 0);
  model.pos_embed = init.normal({1, c.tokens(), c.dim}, 0.02);
  PatchConvolution& patches = model.patch_embed.proj;
  patches.weight = init.lecun_normal(patches.weight.shape(), c.channels * c.patch * c.patch);
  patches.bias = init.constant({c.dim}, 0);
  for (TransformerBlock& block : model.blocks) {
    // There q, k and v are three layers (D, D), so that Glorot's sqrt(6 / (in + out)) is sqrt(6 /
    // 2D) for each.
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

// ---- What the registry asks ----

std::vector<std::string> vit_no_decay() { return {"pos_embed", "cls_token"}; }

namespace {

void add_block(std::vector<LayerSummary>& rows, const std::string& name, const TransformerBlock& block,
               std::int64_t tokens) {
  const std::int64_t dim = block.norm1.weight.shape()[0];
  const Shape stream{tokens, dim};
  rows.push_back({name + ".norm1", stream, parameter_count(block.norm1), 0});
  rows.push_back(linear_row(name + ".attn.qkv", block.attn.qkv, {tokens}));
  rows.push_back({name + ".attn", stream, 0, 2 * tokens * tokens * dim});  // q k^T and the weighted sum of v, all heads
  rows.push_back(linear_row(name + ".attn.proj", block.attn.proj, {tokens}));
  rows.push_back({name + ".norm2", stream, parameter_count(block.norm2), 0});
  rows.push_back(linear_row(name + ".mlp.fc1", block.mlp.fc1, {tokens}));
  rows.push_back(linear_row(name + ".mlp.fc2", block.mlp.fc2, {tokens}));
}

}  // namespace

/// In the order in which they are used, with attention's two products.
std::vector<LayerSummary> ViTFamily::summarize(const VisionTransformer& model) {
  const ViTConfig& c = model.config;
  const std::int64_t tokens = model.pos_embed.shape()[1];  // one more in a distilled DeiT
  std::vector<LayerSummary> rows;
  rows.push_back(patches_row(model.patch_embed.proj, c.patches()));
  if (model.cls_token) rows.push_back({"cls_token", {tokens, c.dim}, parameters_of(*model.cls_token), 0});
  rows.push_back({"pos_embed", {tokens, c.dim}, parameters_of(model.pos_embed), 0});
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    add_block(rows, "blocks." + std::to_string(i), model.blocks[i], tokens);
  }
  if (model.norm) rows.push_back({"norm", {tokens, c.dim}, parameter_count(*model.norm), 0});
  if (model.fc_norm) rows.push_back({"fc_norm", {c.dim}, parameter_count(*model.fc_norm), 0});
  if (model.pre_logits) rows.push_back(linear_row("pre_logits.fc", model.pre_logits->fc, {}));
  if (model.head) rows.push_back(linear_row("head", *model.head, {}));
  return rows;
}

// ---- Names ----

ViTConfig vit_config(const std::string& size, std::int64_t patch, std::int64_t image) {
  struct Size {
    const char* name;
    std::int64_t dim;
    int depth, heads;
  };
  ViTConfig config{.image = image, .patch = patch, .classes = image == 32 ? 10 : 1000};
  for (const auto& [name, dim, depth, heads] :
       {Size{"tiny", 192, 12, 3}, Size{"small", 384, 12, 6}, Size{"base", 768, 12, 12}, Size{"large", 1024, 24, 16},
        Size{"huge", 1280, 32, 16}}) {
    if (size != name) continue;
    config.dim = dim;
    config.depth = depth;
    config.heads = heads;
    return config;
  }
  throw Error(fmt::format("vit_config: size is \"{}\", expected tiny, small, base, large or huge", size));
}

std::vector<CatalogRow<ViTConfig>> plain_deits() {
  std::vector<CatalogRow<ViTConfig>> rows;
  const auto add = [&](const char* size, std::int64_t patch, std::int64_t image) {
    ViTConfig config = vit_config(size, patch, image);
    config.drop_path_rate = 0.1;
    rows.push_back({fmt::format("deit_{}_patch{}_{}", size, patch, image), config, imagenet_config(image)});
  };
  for (const char* size : {"tiny", "small", "base"}) add(size, 16, 224);
  add("base", 16, 384);
  for (const char* size : {"tiny", "small"}) add(size, 4, 32);
  return rows;
}

/// vit_<size>_patch<P>_<image>, and DeiT's.
std::vector<CatalogRow<ViTConfig>> ViTFamily::catalog() {
  std::vector<CatalogRow<ViTConfig>> rows = plain_deits();
  const auto add = [&](const char* size, std::int64_t patch, std::int64_t image) {
    rows.push_back({fmt::format("vit_{}_patch{}_{}", size, patch, image),
                    vit_config(size, patch, image),
                    {.input_size = {3, image, image}, .crop_pct = image == 224 ? 0.9 : 1.0}});
  };
  for (const std::int64_t image : {224, 384}) {
    add("tiny", 16, image);
    for (const char* size : {"small", "base", "large"}) {
      for (const std::int64_t patch : {16, 32}) add(size, patch, image);
    }
  }
  add("small", 8, 224);
  add("base", 8, 224);
  add("large", 14, 224);
  add("huge", 14, 224);
  for (const char* size : {"tiny", "small", "base"}) {
    for (const std::int64_t patch : {2, 4}) add(size, patch, 32);
  }
  return rows;
}

}  // namespace vitrine
