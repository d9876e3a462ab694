// How deep in a model a parameter sits, told by its name: for fine-tuning, where early layers learn
// more slowly than late ones.
#pragma once

#include <string>
#include <vector>

namespace vitrine {

/// How a family names its layers: regular expressions for the names of modules, such as
/// R"(blocks\.\d+)" for blocks.0, blocks.1, ...
struct LayerNames {
  const char* block = "";  // the blocks, one behind the other, over all stages
  const char* head = "";   // the classifier, and what stands between it and the pool
  const char* joint = "";  // layers between two stages, such as Swin's patch merging
};

/// The depth of each parameter: 0 before the first block (patch embedding, tokens, stem), i in the
/// i-th block of all stages, one more in the head. The norm after the last block has the depth of
/// that block, a joint the depth of the block that follows it. The same as timm's layer map for
/// ViT, DeiT, Swin, ResNet and RegNet.
std::vector<int> parameter_depths(const std::vector<std::string>& names, const LayerNames& layers);

/// True for the parameters of the classifier: head, head_dist, fc and the layers between the pool
/// and these.
bool is_head_parameter(const std::string& name, const LayerNames& layers);

}  // namespace vitrine
