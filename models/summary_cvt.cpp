// Rows of the layer table for CvT.
#include "models/cvt.h"
#include "models/summary_rows.h"

namespace vitrine {
namespace {

/// A block whose queries come from a map of `side` x `side` positions, with `extra` class tokens in front.
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

ModelSummary summarize(const ConvolutionalVisionTransformer& model) {
  ModelSummary summary{.name = "cvt", .layers = {}};
  auto& rows = summary.layers;
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
  return summary;
}

}  // namespace vitrine
