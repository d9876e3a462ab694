// Weights as users exchange them: a folder with model.safetensors and config.json, as timm and
// Hugging Face lay it out. (The names of weights are the matter of weights/names/weight_layouts.h.)
//
//   save_weights("my-vit", model, preprocessing, {"cat", "dog"});
//   LoadedModel loaded = load_model("my-vit");           // also a run folder, or a checkpoint file in one
//   loaded.model(images);  loaded.preprocessing.mean;  loaded.label_names[3];
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "models/registry.h"
#include "weights/names/weight_layouts.h"

namespace vitrine {

/// Sets the option that timm's model_args call `name` ("patch_size", "global_pool", ...) from text;
/// `where` begins the message of the Error for an unknown name or value.
void set_model_option(ModelOptions& options, const std::string& name, const std::string& text,
                      const std::string& where);

/// config.json of a model: architecture, num_classes, pretrained_cfg, model_args, label_names.
std::string to_config_json(const Model& model, const PretrainedConfig& preprocessing,
                           const std::vector<std::string>& label_names);

/// Writes model.safetensors and config.json, for Hugging Face also preprocessor_config.json, each
/// atomically. Error, before anything is written, for what the layout cannot say, and for
/// torchvision, which has no config.json.
void save_weights(const std::filesystem::path& folder, const Model& model, const PretrainedConfig& preprocessing,
                  const std::vector<std::string>& label_names, WeightLayout layout = WeightLayout::timm);

/// How the folder of the weights at `path` (or of a file there) says that images are prepared; what
/// it leaves open, and all where it has no config.json, is `fallback`.
PretrainedConfig preprocessing_of_weights(const std::filesystem::path& path, const PretrainedConfig& fallback);

struct LoadedModel {
  Model model;
  PretrainedConfig preprocessing;
  std::vector<std::string> label_names;  // may be empty
  std::vector<std::string> notes;        // what was converted, and where a model of another library differs
};

/// Builds the model that config.json describes, timm's or Hugging Face's, and loads its weights,
/// under whatever names; all must fit. `path` is a weights folder, or a file of weights with
/// config.json beside it; see weights/weight_files.h for what these can be. Of a checkpoint with a
/// moving average, the average is taken.
LoadedModel load_model(const std::filesystem::path& path);

/// The weights in a file of any format, or in a folder, under the names that they have there: what
/// load_weights takes. (read_weight_file also tells what it did.)
StateDict read_weights(const std::filesystem::path& path);

}  // namespace vitrine
