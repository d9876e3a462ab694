// How deep in a model a parameter sits, told by its name: for fine-tuning, where early layers learn more slowly than late ones.
#pragma once

#include <string>
#include <vector>

namespace vitrine {

/// For each of a model's parameters, in their order: 0 before the first block (patch embedding, tokens, stem), 1 in the first
/// block, 2 in the second, over all stages; the norm behind the last block counts to that, what joins two stages to the block
/// behind it; and one more in the head. The same as timm's layer map for ViT, DeiT, Swin, ResNet and RegNet, and by the same rule
/// for CvT, which timm does not have.
std::vector<int> parameter_depths(const std::vector<std::string>& names);

/// What belongs to the classifier: head, head_dist, fc and the layers between the pool and these.
bool is_head_parameter(const std::string& name);

}  // namespace vitrine
