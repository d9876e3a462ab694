// config.json and preprocessor_config.json of transformers, read in terms of create_model, and
// written. Private to train/.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/registry.h"
#include "weights/files/config_file.h"

namespace vitrine {

/// What a model folder of Hugging Face describes.
struct HuggingFaceModel {
  std::string name;  // for create_model
  ModelOptions options;
  std::vector<std::string> label_names;  // empty where the file only numbers them
};

/// Of model_type vit, deit, swin, cvt, resnet or regnet; Error that names file and key for another,
/// and for settings that no model of ours has.
HuggingFaceModel read_huggingface_model(const ConfigFile& config);

/// Takes over what `folder`/preprocessor_config.json says, where there is such a file.
PretrainedConfig read_huggingface_preprocessing(const std::filesystem::path& folder, PretrainedConfig preprocessing);

/// The text of config.json, from which transformers, and read_huggingface_model, build the same
/// function. Error for a model that transformers cannot build.
std::string to_huggingface_config(const Model& model, const std::vector<std::string>& label_names);

/// The text of preprocessor_config.json, by which transformers prepares images as `vitrine eval`
/// does.
std::string to_huggingface_preprocessing(const PretrainedConfig& preprocessing);

}  // namespace vitrine
