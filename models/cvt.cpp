// The Convolutional vision Transformer: how it is put together, and its forward pass.
#include "models/cvt.h"

#include <algorithm>
#include <cmath>

#include "models/family/check_images.h"
#include "models/family/summary_rows.h"

namespace vitrine {
namespace {

constexpr double norm_epsilon = 1e-5;

void check_config(const CvTConfig& c) {
  VT_CHECK(!c.depths.empty() && c.depths.size() == c.heads.size(),
           "cvt: {} depths and {} numbers of heads, expected one of each for every stage", c.depths.size(),
           c.heads.size());
  for (std::size_t stage = 0; stage < c.depths.size(); ++stage) {
    VT_CHECK(c.depths[stage] > 0 && c.heads[stage] > 0, "cvt: stage {} has depth {} and {} heads, expected both > 0",
             stage, c.depths[stage], c.heads[stage]);
  }
  VT_CHECK(c.dim > 0 && c.dim % c.heads[0] == 0, "cvt: dim {} is not a multiple of {}, the heads of the first stage",
           c.dim, c.heads[0]);
  VT_CHECK(c.image > 0 && c.channels > 0 && c.classes >= 0 && c.mlp_ratio > 0,
           "cvt: image {}, channels {}, classes {}, mlp_ratio {}: expected classes >= 0 and the others > 0", c.image,
           c.channels, c.classes, c.mlp_ratio);
  VT_CHECK(c.drop_rate >= 0 && c.drop_rate < 1 && c.drop_path_rate >= 0 && c.drop_path_rate < 1,
           "cvt: drop_rate {} and drop_path_rate {}, expected 0 <= rate < 1", c.drop_rate, c.drop_path_rate);
}

/// (B, C, H, W) -> (B, H W, C)
Tensor to_tokens(const Tensor& map) { return transpose(flatten(map, 2, 3), 1, 2); }

/// (B, H W, C) -> (B, C, H, W), row-major: several convolutions read it.
Tensor to_map(const Tensor& tokens, std::int64_t H, std::int64_t W) {
  return contiguous(reshape(transpose(tokens, 1, 2), {tokens.size(0), tokens.size(2), H, W}));
}

/// (B, tokens, D) -> (B, heads, tokens, D / heads)
Tensor split_heads(const Tensor& x, int heads) {
  return permute(reshape(x, {x.size(0), x.size(1), heads, x.size(2) / heads}), {0, 2, 1, 3});
}

/// The tokens of the map alone.
Tensor without_class_token(const TokenMap& x) {
  return slice(x.tokens, 1, x.tokens.size(1) - x.height * x.width, x.tokens.size(1));
}

}  // namespace

// ---- Convolutional token embedding ----

ConvEmbed ConvEmbed::make(std::int64_t in, std::int64_t dim, const Conv2d::Options& options, std::int64_t kernel,
                          Initializer& init) {
  return {.proj = Conv2d::make(in, dim, kernel, init, options), .norm = LayerNorm::make(dim, init, norm_epsilon)};
}

TokenMap ConvEmbed::operator()(const Tensor& map) const {
  const Tensor x = proj(map);  // equation 1 gives its sides
  return {norm(to_tokens(x)), x.size(2), x.size(3)};
}

// ---- Convolutional projection ----

ConvProjection ConvProjection::make(std::int64_t dim, std::int64_t stride, Initializer& init) {
  return {.conv = Conv2d::make(dim, dim, 3, init, {.stride = stride, .padding = 1, .groups = dim, .with_bias = false}),
          .bn = BatchNorm2d::make(dim, init)};
}

Tensor ConvProjection::operator()(const Tensor& map, const Pass& pass) const { return to_tokens(bn(conv(map), pass)); }

ConvAttention ConvAttention::make(const CvTConfig& config, std::size_t stage, Initializer& init) {
  const std::int64_t D = config.dim_of(stage);
  return {.conv_proj_q = ConvProjection::make(D, 1, init),
          .conv_proj_k = ConvProjection::make(D, config.key_value_stride, init),
          .conv_proj_v = ConvProjection::make(D, config.key_value_stride, init),
          .proj_q = Linear::make(D, D, init),
          .proj_k = Linear::make(D, D, init),
          .proj_v = Linear::make(D, D, init),
          .proj = Linear::make(D, D, init),
          .heads = config.heads[stage],
          .proj_drop = {config.drop_rate}};
}

Tensor ConvAttention::operator()(const TokenMap& x, const Pass& pass) const {
  const Tensor map = to_map(without_class_token(x), x.height, x.width);  // Reshape2D of equation 2
  const std::int64_t B = map.size(0), D = map.size(1), tokens = x.tokens.size(1);
  const bool has_class_token = tokens > x.height * x.width;
  const auto project = [&](const ConvProjection& depthwise, const Linear& pointwise) {
    Tensor y = depthwise(map, pass);  // Flatten(Conv2d(...)) of equation 2
    if (has_class_token) y = concat({slice(x.tokens, 1, 0, 1), y}, 1);
    return split_heads(pointwise(y), heads);
  };
  // 1 / sqrt(D) for all heads together, where ViT has the channels of one head: so the authors'
  // code, and its weights.
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  const Tensor y = attention(project(conv_proj_q, proj_q), project(conv_proj_k, proj_k), project(conv_proj_v, proj_v),
                             std::nullopt, scale);  // (B, heads, tokens, D / heads)
  return proj_drop(proj(reshape(permute(y, {0, 2, 1, 3}), {B, tokens, D})), pass);
}

// ---- Blocks and stages ----

CvTBlock CvTBlock::make(const CvTConfig& config, std::size_t stage, double drop_path_rate, Initializer& init) {
  const std::int64_t D = config.dim_of(stage);
  const auto hidden = static_cast<std::int64_t>(static_cast<double>(D) * config.mlp_ratio);
  return {.norm1 = LayerNorm::make(D, init, norm_epsilon),
          .attn = ConvAttention::make(config, stage, init),
          .norm2 = LayerNorm::make(D, init, norm_epsilon),
          .mlp = Mlp::make(D, hidden, init, config.drop_rate),
          .drop_path = {drop_path_rate}};
}

Tensor CvTBlock::operator()(const TokenMap& x, const Pass& pass) const {
  const Tensor attended = attn({norm1(x.tokens), x.height, x.width}, pass);
  const auto [y, norm] = norm2.add_then_norm(x.tokens, drop_path(attended, pass));  // y = x + ..., norm2(y)
  return y + drop_path(mlp(norm, pass), pass);
}

CvTStage CvTStage::make(const CvTConfig& config, std::size_t stage, Initializer& init) {
  const bool is_first = stage == 0, is_last = stage + 1 == config.depths.size();
  const std::int64_t D = config.dim_of(stage);
  CvTStage result;
  if (is_last) result.cls_token = init.truncated_normal({1, 1, D}, 0.02);
  result.patch_embed =
      is_first ? ConvEmbed::make(config.channels, D, {.stride = config.stem_stride, .padding = config.stem_padding},
                                 config.stem_kernel, init)
               : ConvEmbed::make(config.dim_of(stage - 1), D, {.stride = 2, .padding = 1}, 3, init);
  result.pos_drop = {config.drop_rate};
  const int depth = config.depths[stage];
  for (int i = 0; i < depth; ++i) {
    const double rate = is_last && depth > 1 ? config.drop_path_rate * i / (depth - 1) : 0;
    result.blocks.push_back(CvTBlock::make(config, stage, rate, init));
  }
  return result;
}

TokenMap CvTStage::operator()(const Tensor& map, const Pass& pass) const {
  TokenMap x = patch_embed(map);
  const std::int64_t B = x.tokens.size(0), D = x.tokens.size(2);
  if (cls_token) x.tokens = concat({expand(for_input(*cls_token, x.tokens), {B, 1, D}), x.tokens}, 1);
  x.tokens = pos_drop(x.tokens, pass);
  // Not run_block: its second pass, for recompute, would move the running statistics twice.
  for (const CvTBlock& block : blocks) x.tokens = block(x, pass);
  return x;
}

// ---- The model ----

ConvolutionalVisionTransformer ConvolutionalVisionTransformer::make(const CvTConfig& config, Initializer init) {
  check_config(config);
  init.linear_scheme = LinearScheme::truncated_normal;
  ConvolutionalVisionTransformer model;
  model.config = config;
  const std::size_t count = config.depths.size();
  for (std::size_t stage = 0; stage < count; ++stage) model.stages.push_back(CvTStage::make(config, stage, init));
  const std::int64_t D = config.dim_of(count - 1);
  model.norm = LayerNorm::make(D, init, norm_epsilon);
  if (config.classes > 0) model.head = Linear::make(D, config.classes, init);
  return model;
}

Tensor ConvolutionalVisionTransformer::forward_features(const Tensor& images, const Pass& pass) const {
  check_images("cvt", images, config.channels);
  TokenMap x = stages.front()(images, pass);
  for (std::size_t i = 1; i < stages.size(); ++i) x = stages[i](to_map(x.tokens, x.height, x.width), pass);
  return x.tokens;
}

Tensor ConvolutionalVisionTransformer::forward_head(const Tensor& tokens) const {
  const Tensor class_token = norm(select(tokens, 1, 0));  // (B, D)
  return head ? (*head)(class_token) : class_token;
}

Tensor ConvolutionalVisionTransformer::operator()(const Tensor& images, const Pass& pass) const {
  return forward_head(forward_features(images, pass));
}

// ---- Summary and catalog ----

namespace {

/// A block whose queries come from a map of `side` x `side` positions, with `extra` class tokens in
/// front.
void add_block(std::vector<LayerSummary>& rows, const std::string& name, const CvTBlock& block, std::int64_t side,
               std::int64_t extra) {
  const ConvAttention& attn = block.attn;
  const std::int64_t D = block.norm1.weight.shape()[0], queries = extra + side * side;
  rows.push_back({name + ".norm1", {queries, D}, parameter_count(block.norm1), 0});
  const auto add_projection = [&](const std::string& letter, const ConvProjection& depthwise, const Linear& pointwise) {
    const std::int64_t after = side_after(side, 3, depthwise.conv.stride, depthwise.conv.padding);
    const std::string convolution = name + ".attn.conv_proj_" + letter;
    rows.push_back(conv_row(convolution + ".conv", depthwise.conv, after));
    rows.push_back(norm_row(convolution + ".bn", depthwise.bn, after));
    rows.push_back(linear_row(name + ".attn.proj_" + letter, pointwise, {extra + after * after}));
    return extra + after * after;
  };
  add_projection("q", attn.conv_proj_q, attn.proj_q);
  const std::int64_t keys = add_projection("k", attn.conv_proj_k, attn.proj_k);
  add_projection("v", attn.conv_proj_v, attn.proj_v);
  rows.push_back(
      {name + ".attn", {queries, D}, 0, 2 * queries * keys * D});  // q k^T and the weighted sum of v, all heads
  rows.push_back(linear_row(name + ".attn.proj", attn.proj, {queries}));
  rows.push_back({name + ".norm2", {queries, D}, parameter_count(block.norm2), 0});
  rows.push_back(linear_row(name + ".mlp.fc1", block.mlp.fc1, {queries}));
  rows.push_back(linear_row(name + ".mlp.fc2", block.mlp.fc2, {queries}));
}

}  // namespace

std::vector<LayerSummary> CvTFamily::summarize(const ConvolutionalVisionTransformer& model) {
  std::vector<LayerSummary> rows;
  std::int64_t side = model.config.image;
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    const std::string name = "stage" + std::to_string(s);
    const auto& [cls_token, embed, blocks, pos_drop] = model.stages[s];
    side = side_after(side, embed.proj.weight.shape()[2], embed.proj.stride, embed.proj.padding);
    rows.push_back(conv_row(name + ".patch_embed.proj", embed.proj, side));
    const std::int64_t D = embed.norm.weight.shape()[0], extra = cls_token ? 1 : 0;
    rows.push_back({name + ".patch_embed.norm", {side * side, D}, parameter_count(embed.norm), 0});
    if (cls_token) rows.push_back({name + ".cls_token", {extra + side * side, D}, parameters_of(*cls_token), 0});
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      add_block(rows, name + ".blocks." + std::to_string(i), blocks[i], side, extra);
    }
  }
  rows.push_back({"norm", {model.norm.weight.shape()[0]}, parameter_count(model.norm), 0});
  if (model.head) rows.push_back(linear_row("head", *model.head, {}));
  return rows;
}

/// cvt_<layers>_<image>: tables 2 and 3 of the paper. For CIFAR the first tokens are 3 x 3 pixels
/// wide and 2 apart.
std::vector<CatalogRow<CvTConfig>> CvTFamily::catalog() {
  std::vector<CatalogRow<CvTConfig>> rows;
  const auto add = [&](const char* layers, const CvTConfig& config) {
    PretrainedConfig pretrained = imagenet_config(config.image);
    if (config.image == 224) pretrained.crop_pct = 0.875;
    pretrained.first_conv = "stage0.patch_embed.proj";
    rows.push_back({fmt::format("cvt_{}_{}", layers, config.image), config, pretrained});
  };
  for (const std::int64_t image : {224, 384}) {
    add("13", {.image = image});
    add("21", {.image = image, .depths = {1, 4, 16}});
  }
  add("w24", {.image = 384, .depths = {2, 2, 20}, .heads = {3, 12, 16}, .dim = 192, .drop_path_rate = 0.3});
  add("13", {.image = 32, .classes = 10, .stem_kernel = 3, .stem_stride = 2, .stem_padding = 1});
  return rows;
}

}  // namespace vitrine
