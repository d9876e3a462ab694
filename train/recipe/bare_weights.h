// Weights without a config.json: flags name the model, and how images are prepared follows from the
// library whose names the weights have.
#pragma once

#include <filesystem>

#include "train/recipe/recipe.h"
#include "weights/model_folder.h"

namespace vitrine {

/// How torchvision prepares images for its first ImageNet weights of this model: ImageNet's mean
/// and deviation, and the `resize_size` and filter of its presets (torchvision 0.29, such as
/// `ViT_B_16_Weights.IMAGENET1K_V1`). For other sizes than 224 pixels torchvision has only the SWAG
/// weights, whose images are resized and not cropped.
PretrainedConfig torchvision_preprocessing(const Model& model);

/// The model that recipe.model names, with the recipe's options, and the weights at `path`, a file
/// or a folder, under the names of any library that load_weights knows; all must fit. Images are
/// prepared as the recipe says. What it does not say (mean, std, crop_pct, interpolation) is taken
/// from torchvision_preprocessing where the names are torchvision's, and a note says so; else from
/// the model. There are no label names.
LoadedModel load_bare_weights(const std::filesystem::path& path, const Recipe& recipe, std::int64_t classes);

}  // namespace vitrine
