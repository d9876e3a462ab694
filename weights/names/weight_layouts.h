// Weights under the names of timm, torchvision or Hugging Face: which library wrote them is seen
// from the names.
//
//   const TranslatedWeights weights = to_our_layout(read_weights("vit_b_16.safetensors"));
//   model.load_state_dict(weights.state);  // our names
//   const StateDict theirs = to_layout(model.state_dict(), WeightLayout::huggingface);
//
// What wrappers put before the names, such as "module.", is found and removed. Ours is timm's
// layout, and for CvT, which timm lacks, its authors'. ViT, distilled DeiT and CvT (which
// torchvision lacks), Swin, ResNet and RegNet are known; of Swin also the files of its authors, of
// ViT those of Google. The names themselves stand in weights/names/weight_tables.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nn/module.h"

namespace vitrine {

enum class WeightLayout { timm, torchvision, huggingface };

/// "timm", "torchvision" or "huggingface"; Error for another name.
WeightLayout weight_layout_from_name(std::string_view name);

struct NameTable;

/// Weights under our names, and what is needed to speak of them under those of their file.
struct TranslatedWeights {
  StateDict state;                   // our names; in the order of the file
  std::vector<std::string> unknown;  // names of the file that its layout does not have
  std::vector<std::string> derived;  // names of index and mask buffers, which were left out: they follow from the sizes
  std::vector<std::string> unused;   // names of layers that the library's classifiers do not use, left out as well
  std::vector<std::string> names;    // every name of the file
  const NameTable* table = nullptr;  // nullptr: the file's names are ours, as they stand
  std::vector<std::string> copies;   // names of a second model in the file, left out: "model." beside "model_ema."
  std::string prefix;                // "module." or what else stood before most names and was removed
  bool has_base = true;              // whether the names have the table's base, such as "vit."
  std::map<std::string, std::string> sources;  // by our name, that of the file, where it is one

  /// "torchvision's Swin"; "timm" where nothing had to be translated.
  std::string description() const;
  /// What was renamed, removed and left out, for a user; empty where nothing was.
  std::vector<std::string> notes() const;
  /// Whose names the file has; timm where nothing had to be translated, and for Swin's authors.
  WeightLayout layout() const;
  /// What the file calls a weight of ours, or would call it: three names for a `qkv` where query,
  /// key and value are apart.
  std::vector<std::string> names_of(const std::string& ours) const;
  /// The shape of each of these in the file, for a weight of ours with this shape.
  Shape shape_of(const std::string& ours, const Shape& shape) const;
};

/// Sees the layout from the names and renames; joins query, key and value. Weights of no known
/// layout keep their names. Error where query, key and value differ in shape.
TranslatedWeights to_our_layout(const StateDict& weights);

/// Weights with our names under those of `layout`, without copies where none are needed;
/// torchvision's Swin gets its index buffers. Error for a weight that has no name there, such as
/// `fc_norm`: only timm's ViT averages its tokens.
StateDict to_layout(const StateDict& weights, WeightLayout layout);

}  // namespace vitrine
