// The named models of all families: a configuration for each name, and how a model is made from it.
// Private to the library.
#pragma once

#include <map>
#include <string>

#include "models/families.h"
#include "models/family/model.h"

namespace vitrine {

using ModelConfig = Families::Config;

struct CatalogEntry {
  ModelConfig config;
  PretrainedConfig pretrained;
};

using Catalog = std::map<std::string, CatalogEntry, std::less<>>;

/// All of them, by timm's names; and at 32 pixels for CIFAR with ten classes.
const Catalog& catalog();

/// What the model was made from: its entry with its options applied.
ModelConfig config_of(const Model& model);

/// The entry's model with `options` applied and weights from `init`. Throws Error for options that
/// it cannot have.
Model build_model(const std::string& name, const CatalogEntry& entry, const ModelOptions& options,
                  const Initializer& init);

}  // namespace vitrine
