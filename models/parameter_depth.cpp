// Names of blocks: blocks.3 (ViT), layers.1.blocks.0 (Swin), stage1.blocks.0 (CvT), layer2.0 (ResNet), s2.b1 (RegNet).
#include "models/parameter_depth.h"

#include <algorithm>
#include <regex>

namespace vitrine {

bool is_head_parameter(const std::string& name) {
  static const std::regex head(R"((head|head_dist|fc|fc_norm|pre_logits)\..*)");
  return std::regex_match(name, head);
}

std::vector<int> parameter_depths(const std::vector<std::string>& names) {
  static const std::regex block(R"((blocks\.\d+|(?:layers\.|stage)\d+\.blocks\.\d+|layer\d+\.\d+|s\d+\.b\d+)\..*)");
  // At the start of a stage Swin merges patches, and CvT makes new tokens.
  static const std::regex joint(R"(layers\.\d+\.downsample\..*|stage[1-9]\d*\.(patch_embed\..*|cls_token))");
  std::vector<int> depths;
  std::string current;
  int blocks = 0;
  for (const std::string& name : names) {
    std::smatch match;
    if (std::regex_match(name, match, block) && match[1] != current) current = match[1], ++blocks;
    depths.push_back(std::regex_match(name, joint) ? blocks + 1 : blocks);
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (is_head_parameter(names[i])) depths[i] = blocks + 1;
  }
  return depths;
}

}  // namespace vitrine
