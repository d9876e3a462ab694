// Models by timm's names: create_model("vit_tiny_patch16_224", {.num_classes = 10}),
// list_models("vit*").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/family/model.h"
#include "nn/init.h"

namespace vitrine {

/// A name that no model has. `what()` lists the closest ones.
class UnknownModel : public Error {
 public:
  using Error::Error;
};

/// A new model with random weights. A tag after a dot, as in "vit_base_patch16_224.augreg_in1k", is
/// accepted and ignored. Throws UnknownModel, or Error for options that the model cannot have.
Model create_model(std::string_view name, const ModelOptions& options = {});

/// The names that match a glob with * and ?, sorted.
std::vector<std::string> list_models(std::string_view glob = "*");

/// Layers, parameters and multiply-adds of create_model(name, options), without the memory for its
/// weights.
ModelSummary summarize_model(std::string_view name, const ModelOptions& options = {});

/// The options of --model-kwargs, a line for each meaning: "depths (swin, resnet): blocks of each
/// stage".
std::vector<std::string> explain_options();

}  // namespace vitrine
