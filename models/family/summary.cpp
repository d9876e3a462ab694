// The layer table as text and as JSON.
#include "models/family/summary.h"

#include <fmt/format.h>
#include <algorithm>

namespace vitrine {
namespace {

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
