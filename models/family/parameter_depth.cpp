// Depths by counting blocks along the list of parameters.
#include "models/family/parameter_depth.h"

#include <fmt/format.h>

#include <regex>

namespace vitrine {
namespace {

/// Matches the parameters within a module: "head" those that begin with "head.".
std::regex within(const char* module) { return std::regex(fmt::format(R"(({})\..*)", module)); }

}  // namespace

bool is_head_parameter(const std::string& name, const LayerNames& layers) {
  return std::regex_match(name, within(layers.head));
}

std::vector<int> parameter_depths(const std::vector<std::string>& names, const LayerNames& layers) {
  const std::regex block = within(layers.block), joint = within(layers.joint), head = within(layers.head);
  std::vector<int> depths;
  std::string current;
  int blocks = 0;
  for (const std::string& name : names) {
    std::smatch match;
    if (std::regex_match(name, match, block) && match[1] != current) current = match[1], ++blocks;
    depths.push_back(std::regex_match(name, joint) ? blocks + 1 : blocks);
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (std::regex_match(names[i], head)) depths[i] = blocks + 1;
  }
  return depths;
}

}  // namespace vitrine
