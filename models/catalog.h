// The named models: a configuration for each name, and how a model is made from it. Private to models/ and train/.
#pragma once

#include <map>
#include <string>
#include <variant>

#include "models/cvt.h"
#include "models/hybrid.h"
#include "models/registry.h"
#include "models/regnet.h"
#include "models/resnet.h"
#include "models/swin.h"
#include "models/vit.h"

namespace vitrine {

/// A ViT with a distillation token.
struct DistilledConfig {
  ViTConfig vit;
};

using ModelConfig =
    std::variant<ViTConfig, DistilledConfig, HybridConfig, SwinConfig, CvTConfig, ResNetConfig, RegNetConfig>;

struct CatalogEntry {
  ModelConfig config;
  PretrainedConfig pretrained;
};

using Catalog = std::map<std::string, CatalogEntry, std::less<>>;

/// All of them, by timm's names; and at 32 pixels for CIFAR with ten classes.
const Catalog& catalog();

/// What the model was made from: its entry with its options applied.
ModelConfig config_of(const Model& model);

/// The entry's model with `options` applied and weights from `init`. Throws Error for options that it cannot have.
Model build_model(const std::string& name, const CatalogEntry& entry, const ModelOptions& options,
                  const Initializer& init);

}  // namespace vitrine
