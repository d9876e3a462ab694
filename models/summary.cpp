// Rows of the layer table for a ViT, and the table as text and as JSON.
#include "models/summary.h"

#include <fmt/format.h>
#include <algorithm>

#include "models/vit.h"

namespace vitrine {
namespace {

std::int64_t parameters_of(const Parameter& p) { return element_count(p.shape()); }

/// A linear layer applied to `count` vectors.
LayerSummary linear_row(const std::string& name, const Linear& layer, const Shape& leading) {
  Shape output = leading;
  output.push_back(layer.weight.shape()[0]);
  return {name, output, parameter_count(layer), element_count(leading) * parameters_of(layer.weight)};
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
  rows.push_back({"patch_embed.proj",
                  {c.patches(), c.dim},
                  parameter_count(model.patch_embed),
                  c.patches() * parameters_of(model.patch_embed.proj.weight)});
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
