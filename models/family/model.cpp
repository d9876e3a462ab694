// What all models can do, whatever their architecture.
#include "models/family/model.h"

#include <set>

namespace vitrine {

std::int64_t Model::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& [name, parameter] : parameters()) count += element_count(parameter->shape());
  return count;
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
