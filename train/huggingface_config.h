// config.json and preprocessor_config.json as transformers writes them, in terms of create_model. Private to train/.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/registry.h"
#include "train/config_file.h"

namespace vitrine {

/// What a model folder of Hugging Face describes.
struct HuggingFaceModel {
  std::string name;  // for create_model
  ModelOptions options;
  std::vector<std::string> label_names;  // empty where the file only numbers them
};

/// Of model_type vit, deit, swin or resnet; Error that names file and key for another, and for settings that no model
/// of ours has.
HuggingFaceModel read_huggingface_model(const ConfigFile& config);

/// Takes over what `folder`/preprocessor_config.json says, where there is such a file.
PretrainedConfig read_huggingface_preprocessing(const std::filesystem::path& folder, PretrainedConfig preprocessing);

}  // namespace vitrine
