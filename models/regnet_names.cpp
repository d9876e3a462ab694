// The names of RegNet's layers in two libraries, as one table that is read in both directions.
#include "models/regnet_names.h"

#include <fmt/format.h>

#include <array>
#include <regex>

namespace vitrine {
namespace {

struct Names {
  const char *torchvision, *timm;  // how a layer's name begins, within a block or outside
};

constexpr std::array outside{Names{"stem.0.", "stem.conv."}, Names{"stem.1.", "stem.bn."}, Names{"fc.", "head.fc."}};
constexpr std::array within_block{Names{"proj.0.", "downsample.conv."},
                                  Names{"proj.1.", "downsample.bn."},
                                  Names{"f.a.0.", "conv1.conv."},
                                  Names{"f.a.1.", "conv1.bn."},
                                  Names{"f.b.0.", "conv2.conv."},
                                  Names{"f.b.1.", "conv2.bn."},
                                  Names{"f.se.", "se."},
                                  Names{"f.c.0.", "conv3.conv."},
                                  Names{"f.c.1.", "conv3.bn."}};

/// `name` with its beginning replaced by the table's, or nothing if the table has none that fits.
std::string replaced(const std::string& name, const auto& table, const char* Names::*from, const char* Names::*to) {
  for (const Names& names : table) {
    const std::string beginning = names.*from;
    if (name.starts_with(beginning)) return fmt::format("{}{}", names.*to, name.substr(beginning.size()));
  }
  return "";
}

}  // namespace

std::string regnet_name_from_torchvision(const std::string& name) {
  static const std::regex block(R"(trunk_output\.block(\d+)\.block\1-(\d{1,4})\.(.+))");
  std::smatch match;
  const bool in_block = std::regex_match(name, match, block);
  const std::string layer = in_block ? replaced(match[3], within_block, &Names::torchvision, &Names::timm)
                                     : replaced(name, outside, &Names::torchvision, &Names::timm);
  if (layer.empty()) return name;
  return in_block ? fmt::format("s{}.b{}.{}", match.str(1), std::stoi(match[2]) + 1, layer) : layer;
}

std::string regnet_name_to_torchvision(const std::string& name) {
  static const std::regex block(R"(s(\d+)\.b(\d{1,4})\.(.+))");
  std::smatch match;
  const bool in_block = std::regex_match(name, match, block);
  const std::string layer = in_block ? replaced(match[3], within_block, &Names::timm, &Names::torchvision)
                                     : replaced(name, outside, &Names::timm, &Names::torchvision);
  if (layer.empty()) return name;
  return in_block ? fmt::format("trunk_output.block{0}.block{0}-{1}.{2}", match.str(1), std::stoi(match[2]) - 1, layer)
                  : layer;
}

}  // namespace vitrine
