// Finding a model by its name.
#include "models/registry.h"

#include <set>

#include "models/catalog.h"
#include "tensor/closest_name.h"

namespace vitrine {
namespace {

const Catalog::value_type& find_entry(std::string_view name) {
  const std::string_view bare = name.substr(0, name.find('.'));  // a tag names weights, not an architecture
  const auto found = catalog().find(bare);
  if (found != catalog().end()) return *found;
  const std::vector<std::string> names = by_distance(bare, list_models());
  throw UnknownModel(fmt::format("create_model: no model is called \"{}\"; the closest of {} are {}, {}, {}", name,
                                 names.size(), names[0], names[1], names[2]));
}

Model build(std::string_view name, const ModelOptions& options, const Initializer& init) {
  const auto& [registered, entry] = find_entry(name);
  return build_model(registered, entry, options, init);
}

/// Shell-style: * is any text, ? is any character.
bool matches(std::string_view glob, std::string_view text) {
  if (glob.empty()) return text.empty();
  if (glob[0] == '*') return matches(glob.substr(1), text) || (!text.empty() && matches(glob, text.substr(1)));
  return !text.empty() && (glob[0] == '?' || glob[0] == text[0]) && matches(glob.substr(1), text.substr(1));
}

}  // namespace

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

Model create_model(std::string_view name, const ModelOptions& options) {
  return build(name, options, Initializer(options.seed, options.dtype));
}

std::vector<std::string> list_models(std::string_view glob) {
  std::vector<std::string> names;
  for (const auto& [name, entry] : catalog()) {
    if (matches(glob, name)) names.push_back(name);
  }
  return names;
}

ModelSummary summarize_model(std::string_view name, const ModelOptions& options) {
  return build(name, options, Initializer::shapes_only()).summary();
}

}  // namespace vitrine
