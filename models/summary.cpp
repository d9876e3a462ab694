// Rows of the layer table for the transformers, and the table as text and as JSON.
#include "models/summary.h"

#include <fmt/format.h>
#include <algorithm>

#include "models/deit.h"
#include "models/summary_rows.h"
#include "models/swin.h"
#include "models/vit.h"

namespace vitrine {
namespace {

/// A linear layer on the pixels of `count` patches.
LayerSummary patches_row(const PatchConvolution& proj, std::int64_t count) {
  return {
      "patch_embed.proj", {count, proj.weight.shape()[0]}, parameter_count(proj), count * parameters_of(proj.weight)};
}

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

/// "12,345,678".
std::string with_commas(std::int64_t value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace

std::int64_t ModelSummary::parameters() const {
  std::int64_t total = 0;
  for (const LayerSummary& layer : layers) total += layer.parameters;
  return total;
}

std::int64_t ModelSummary::macs() const {
  std::int64_t total = 0;
  for (const LayerSummary& layer : layers) total += layer.macs;
  return total;
}

ModelSummary summarize(const VisionTransformer& model) {
  const ViTConfig& c = model.config;
  ModelSummary summary{.name = "vit", .layers = {}};
  auto& rows = summary.layers;
  rows.push_back(patches_row(model.patch_embed.proj, c.patches()));
  if (model.cls_token) rows.push_back({"cls_token", {c.tokens(), c.dim}, parameters_of(*model.cls_token), 0});
  rows.push_back({"pos_embed", {c.tokens(), c.dim}, parameters_of(model.pos_embed), 0});
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    add_block(rows, "blocks." + std::to_string(i), model.blocks[i], c.tokens());
  }
  if (model.norm) rows.push_back({"norm", {c.tokens(), c.dim}, parameter_count(*model.norm), 0});
  if (model.fc_norm) rows.push_back({"fc_norm", {c.dim}, parameter_count(*model.fc_norm), 0});
  if (model.pre_logits) rows.push_back(linear_row("pre_logits.fc", model.pre_logits->fc, {}));
  if (model.head) rows.push_back(linear_row("head", *model.head, {}));
  return summary;
}

ModelSummary summarize(const DistilledVisionTransformer& model) {
  const ViTConfig& c = model.config;
  const std::int64_t tokens = c.patches() + 2;
  ModelSummary summary{.name = "deit", .layers = {}};
  auto& rows = summary.layers;
  rows.push_back(patches_row(model.patch_embed.proj, c.patches()));
  rows.push_back({"cls_token", {tokens, c.dim}, parameters_of(model.cls_token), 0});
  rows.push_back({"dist_token", {tokens, c.dim}, parameters_of(model.dist_token), 0});
  rows.push_back({"pos_embed", {tokens, c.dim}, parameters_of(model.pos_embed), 0});
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    add_block(rows, "blocks." + std::to_string(i), model.blocks[i], tokens);
  }
  rows.push_back({"norm", {tokens, c.dim}, parameter_count(model.norm), 0});
  if (model.head) rows.push_back(linear_row("head", *model.head, {}));
  if (model.head_dist) rows.push_back(linear_row("head_dist", *model.head_dist, {}));
  return summary;
}

namespace {

/// A block on a map of `side` x `side` places. Attention works on whole windows, the MLP on the map.
void add_block(std::vector<LayerSummary>& rows, const std::string& name, const SwinBlock& block, std::int64_t side) {
  const std::int64_t dim = block.norm1.weight.shape()[0], w = block.attn.window;
  const std::int64_t padded = (side + w - 1) / w * w, tokens = padded * padded;
  const Shape map{side, side, dim};
  rows.push_back({name + ".norm1", map, parameter_count(block.norm1), 0});
  if (const auto& table = block.attn.relative_position_bias_table) {
    rows.push_back({name + ".attn.relative_position_bias_table", table->shape(), parameters_of(*table), 0});
  }
  rows.push_back(linear_row(name + ".attn.qkv", block.attn.qkv, {tokens}));
  rows.push_back({name + ".attn", {tokens, dim}, 0, 2 * tokens * w * w * dim});
  rows.push_back(linear_row(name + ".attn.proj", block.attn.proj, {tokens}));
  rows.push_back({name + ".norm2", map, parameter_count(block.norm2), 0});
  rows.push_back(linear_row(name + ".mlp.fc1", block.mlp.fc1, {side, side}));
  rows.push_back(linear_row(name + ".mlp.fc2", block.mlp.fc2, {side, side}));
}

}  // namespace

ModelSummary summarize(const SwinTransformer& model) {
  std::int64_t side = model.config.grid();
  ModelSummary summary{.name = "swin", .layers = {}};
  auto& rows = summary.layers;
  rows.push_back(patches_row(model.patch_embed.proj, side * side));
  rows.push_back({"patch_embed.norm", {side * side, model.config.dim}, parameter_count(model.patch_embed.norm), 0});
  if (model.absolute_pos_embed) {
    rows.push_back({"absolute_pos_embed", {side, side, model.config.dim}, parameters_of(*model.absolute_pos_embed), 0});
  }
  for (std::size_t s = 0; s < model.layers.size(); ++s) {
    const std::string name = "layers." + std::to_string(s);
    if (const auto& merging = model.layers[s].downsample) {
      side = (side + 1) / 2;
      rows.push_back({name + ".downsample.norm",
                      {side, side, merging->norm.weight.shape()[0]},
                      parameter_count(merging->norm),
                      0});
      rows.push_back(linear_row(name + ".downsample.reduction", merging->reduction, {side, side}));
    }
    for (std::size_t i = 0; i < model.layers[s].blocks.size(); ++i) {
      add_block(rows, name + ".blocks." + std::to_string(i), model.layers[s].blocks[i], side);
    }
  }
  rows.push_back({"norm", {side, side, model.norm.weight.shape()[0]}, parameter_count(model.norm), 0});
  if (model.head) rows.push_back(linear_row("head.fc", model.head->fc, {}));
  return summary;
}

std::string to_table(const ModelSummary& summary) {
  std::size_t width = 5;
  for (const LayerSummary& layer : summary.layers) width = std::max(width, layer.name.size());
  const auto row = [&](const std::string& name, const std::string& shape, const std::string& parameters,
                       const std::string& macs) {
    return fmt::format("{:<{}}  {:>14}  {:>13}  {:>17}\n", name, width, shape, parameters, macs);
  };
  std::string table = fmt::format("{}\n", summary.name) + row("layer", "output", "parameters", "multiply-adds");
  for (const LayerSummary& layer : summary.layers) {
    table += row(layer.name, to_string(layer.output), with_commas(layer.parameters), with_commas(layer.macs));
  }
  return table + row("total", "", with_commas(summary.parameters()), with_commas(summary.macs()));
}

std::string to_json(const ModelSummary& summary) {
  std::string rows;
  for (const LayerSummary& layer : summary.layers) {  // names are made of letters, digits, dots and underscores
    rows +=
        fmt::format("{}\n  {{\"name\": \"{}\", \"output_shape\": [{}], \"parameters\": {}, \"macs\": {}}}",
                    rows.empty() ? "" : ",", layer.name, fmt::join(layer.output, ", "), layer.parameters, layer.macs);
  }
  return fmt::format("{{\"name\": \"{}\", \"parameters\": {}, \"macs\": {}, \"layers\": [{}\n]}}\n", summary.name,
                     summary.parameters(), summary.macs(), rows);
}

}  // namespace vitrine
