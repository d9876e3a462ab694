// Finding a model by its name.
#include "models/registry.h"

#include <fmt/ranges.h>

#include <algorithm>
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

/// What an option means, and to which families.
struct Meaning {
  std::string text;
  std::vector<std::string> families;
};

std::vector<Meaning> meanings_of(std::string_view name) {
  std::vector<Meaning> meanings;
  Families::for_each([&]<ModelFamily F>() {
    typename F::Config config;
    F::Config::options(config, [&](auto option, auto&, const char* text) {
      if (option_name(option) != name) return;
      auto meaning = std::ranges::find(meanings, text, &Meaning::text);
      if (meaning == meanings.end()) meaning = meanings.insert(meaning, {text, {}});
      meaning->families.emplace_back(F::name);
    });
  });
  return meanings;
}

}  // namespace

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

std::vector<std::string> explain_options() {
  std::vector<std::string> lines;
  static const ModelOptions any;
  ModelOptions::architecture(any, [&](const char* name, const auto&) {
    for (const auto& [text, families] : meanings_of(name)) {
      lines.push_back(fmt::format("{} ({}): {}", name, fmt::join(families, ", "), text));
    }
  });
  return lines;
}

}  // namespace vitrine
