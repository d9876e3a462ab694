// Weights that come without config.json: flags name the model, and the names in the file tell how images are prepared.
#pragma once

#include <filesystem>

#include "train/recipe/recipe.h"
#include "weights/model_folder.h"

namespace vitrine {

/// How torchvision prepares images for its first ImageNet weights of this model: ImageNet's mean and deviation, and the
/// `resize_size` and filter of its presets (torchvision 0.29, `ViT_B_16_Weights.IMAGENET1K_V1` and their likes). Away from
/// 224 pixels torchvision has only the SWAG weights, whose images are cut as large as they are resized.
PretrainedConfig torchvision_preprocessing(const Model& model);

/// The model that recipe.model names, with the recipe's options, and the weights at `path`, a file or a folder, under whatever
/// names; all must fit. The recipe says how images are prepared; what it leaves open is torchvision's way where the names are
/// torchvision's, which a note tells, and else the model's. There are no label names.
LoadedModel load_bare_weights(const std::filesystem::path& path, const Recipe& recipe, std::int64_t classes);

}  // namespace vitrine
