// ModelOptions: what create_model can be told besides a name. Which options a family has, and what
// they mean there, its configuration lists (`SwinConfig::options` in models/swin.h); this is the
// union of these lists, for C++.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/error.h"

namespace vitrine {

/// One value for the whole model, or one for each stage.
struct PerStage {
  std::vector<int> values;
  PerStage() = default;
  PerStage(int value) : values{value} {}
  PerStage(std::vector<int> of_stages) : values(std::move(of_stages)) {}
};

/// Departures from what the name says, under timm's names for them. A model refuses those that its
/// family does not list.
struct ModelOptions {
  std::optional<std::int64_t> num_classes = {};
  std::optional<std::int64_t> img_size = {};
  std::optional<std::int64_t> in_chans = {};
  std::optional<std::int64_t> patch_size = {};
  std::optional<std::int64_t> embed_dim = {};
  std::optional<int> depth = {};
  std::optional<PerStage> depths = {};
  std::optional<PerStage> num_heads = {};
  std::optional<std::int64_t> window_size = {};
  std::optional<double> mlp_ratio = {};
  std::optional<double> drop_rate = {};
  std::optional<double> drop_path_rate = {};
  std::optional<bool> class_token = {};
  std::optional<std::string> global_pool = {};
  std::optional<std::int64_t> representation_size = {};
  std::optional<std::string> weight_init = {};
  std::optional<double> norm_eps = {};
  std::optional<bool> shift = {};
  std::optional<std::string> position = {};
  std::optional<std::string> distilled_head = {};
  DType dtype = DType::f32;
  std::uint64_t seed = 0;  // of the initial weights

  /// The options of --model-kwargs and of config.json's model_args, in the order in which both
  /// print them.
  static void architecture(auto& self, auto&& option) {
    option("img_size", self.img_size);
    option("in_chans", self.in_chans);
    option("patch_size", self.patch_size);
    option("embed_dim", self.embed_dim);
    option("depth", self.depth);
    option("depths", self.depths);
    option("num_heads", self.num_heads);
    option("mlp_ratio", self.mlp_ratio);
    option("class_token", self.class_token);
    option("global_pool", self.global_pool);
    option("representation_size", self.representation_size);
    option("window_size", self.window_size);
    option("shift", self.shift);
    option("position", self.position);
    option("distilled_head", self.distilled_head);
    option("weight_init", self.weight_init);
    option("norm_eps", self.norm_eps);
  }
  /// These, and those that have a flag of their own: all but dtype and seed, which every model
  /// takes.
  static void options(auto& self, auto&& option) {
    option("num_classes", self.num_classes);
    architecture(self, option);
    option("drop_rate", self.drop_rate);
    option("drop_path_rate", self.drop_path_rate);
  }
};

/// The name of an option: "embed_dim" for &ModelOptions::embed_dim.
template <class T>
const char* option_name(std::optional<T> ModelOptions::*option) {
  static const ModelOptions options;
  const void* const wanted = &(options.*option);
  const char* found = nullptr;
  ModelOptions::options(options, [&](const char* name, const auto& member) {
    if (&member == wanted) found = name;
  });
  VT_CHECK(found, "ModelOptions: has a member that is missing in ModelOptions::options");
  return found;
}

}  // namespace vitrine
