// What all models can do, whatever their architecture.
#include "models/family/model.h"

#include <set>

#include "ops/ops.h"

namespace vitrine {

std::int64_t Model::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& [name, parameter] : parameters()) count += element_count(parameter->shape());
  return count;
}

Tensor Model::seen(const Tensor& images) const {
  const bool has_colors = images.dim() == 4 && images.size(1) == 3;
  if (info_.pretrained.input_size[0] != 1 || !has_colors) return images;
  const auto color = [&](std::int64_t c) { return slice(images, 1, c, c + 1); };
  // Red and what the others differ from it: of grey images nothing, so that no rounding is left.
  const Tensor red = color(0);
  return red + (color(1) - red) * 0.587 + (color(2) - red) * 0.114;
}

LoadReport Model::load_state_dict(const StateDict& state, bool strict) {
  return load_tensors(state_dict(), state, strict);
}

void Model::copy_buffers_from(const Model& other) {
  std::set<std::string> names;
  for (const NamedParameter& parameter : parameters()) names.insert(parameter.name);
  StateDict buffers = state_dict();
  std::erase_if(buffers, [&](const auto& entry) { return names.contains(entry.first); });
  const LoadReport report = load_tensors(buffers, other.state_dict(), false);
  VT_CHECK(report.missing.empty() && report.mismatched.empty(), "copy_buffers_from: {}", to_string(report));
}

ModelSummary Model::summary() const {
  ModelSummary summary = interface_->summary();
  summary.name = info_.name;
  return summary;
}

}  // namespace vitrine
