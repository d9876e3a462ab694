// State dicts: which names and shapes fit, and the copy into the parameters.
#include "nn/module.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace vitrine {
namespace {

/// "missing a, b, c and 9 more"; empty for an empty list.
std::string list_names(std::string_view what, const std::vector<std::string>& names) {
  constexpr std::size_t shown = 8;
  if (names.empty()) return "";
  std::string text = fmt::format("{} ", what);
  for (std::size_t i = 0; i < std::min(names.size(), shown); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

}  // namespace

std::string to_string(const LoadReport& report) {
  std::vector<std::string> mismatches;
  for (const auto& m : report.mismatched) {
    mismatches.push_back(
        fmt::format("{} has shape {}, expected {}", m.name, to_string(m.found), to_string(m.expected)));
  }
  std::string text;
  for (const std::string& part : {list_names("missing", report.missing), list_names("unexpected", report.unexpected),
                                  list_names("mismatched:", mismatches)}) {
    if (!part.empty()) text += (text.empty() ? "" : "; ") + part;
  }
  return text.empty() ? "all names and shapes fit" : text;
}

LoadReport load_tensors(const StateDict& target, const StateDict& state, bool strict) {
  std::unordered_map<std::string_view, const Tensor*> found;
  for (const auto& [name, tensor] : state) {
    VT_CHECK(found.emplace(name, &tensor).second, "load_state_dict: {} occurs twice in the state dict", name);
  }
  LoadReport report;
  std::unordered_set<std::string_view> expected;
  std::vector<std::pair<Tensor, const Tensor*>> copies;
  for (const auto& [name, tensor] : target) {
    expected.insert(name);
    const auto entry = found.find(name);
    if (entry == found.end()) {
      report.missing.push_back(name);
    } else if (!(entry->second->shape() == tensor.shape())) {
      report.mismatched.push_back({name, tensor.shape(), entry->second->shape()});
    } else {
      copies.emplace_back(tensor, entry->second);
    }
  }
  for (const auto& [name, tensor] : state) {
    if (!expected.contains(name)) report.unexpected.push_back(name);
  }
  VT_CHECK(!strict || report.clean(), "load_state_dict: {}", to_string(report));
  for (auto& [tensor, source] : copies) copy_into(tensor, *source);
  return report;
}

}  // namespace vitrine
