// config.json and model.safetensors, written and obeyed.
#include "weights/model_folder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tensor/closest_name.h"
#include "weights/files/config_file.h"
#include "weights/files/file.h"
#include "weights/files/safetensors.h"
#include "weights/huggingface/config.h"
#include "weights/load_weights.h"
#include "weights/weight_files.h"

namespace vitrine {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

/// "3", "2,2,6,2" or "[2, 2, 6, 2]".
bool parse(std::string text, PerStage& numbers) {
  std::ranges::replace_if(
      text, [](char c) { return c == '[' || c == ']' || c == ','; }, ' ');
  std::istringstream words(text);
  for (int value; words >> value;) numbers.values.push_back(value);
  return words.eof() && !numbers.values.empty();
}

template <class T>
bool parse(const std::string& text, T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    value = text;
    return true;
  } else if constexpr (std::is_same_v<T, bool>) {
    value = text == "true";
    return text == "true" || text == "false";
  } else {
    const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    return failure == std::errc() && stop == text.data() + text.size();
  }
}

Json model_args(const ModelOptions& options) {
  Json json = Json::object();
  ModelOptions::architecture(options, [&]<class T>(const char* name, const std::optional<T>& option) {
    if (!option) return;
    if constexpr (std::is_same_v<T, PerStage>) {
      json[name] = option->values.size() == 1 ? Json(option->values[0]) : Json(option->values);
    } else {
      json[name] = *option;
    }
  });
  return json;
}

PretrainedConfig read_preprocessing(const ConfigFile& config, PretrainedConfig p) {
  p.input_size = config.get("pretrained_cfg.input_size", p.input_size);
  p.interpolation = config.get("pretrained_cfg.interpolation", p.interpolation);
  p.crop_pct = config.get("pretrained_cfg.crop_pct", p.crop_pct);
  p.mean = config.get("pretrained_cfg.mean", p.mean);
  p.std = config.get("pretrained_cfg.std", p.std);
  return p;
}

}  // namespace

void set_model_option(ModelOptions& options, const std::string& name, const std::string& text,
                      const std::string& where) {
  std::vector<std::string> names;
  bool found = false;
  ModelOptions::architecture(options, [&](const char* known, auto& option) {
    names.emplace_back(known);
    if (name != known) return;
    found = true;
    VT_CHECK(parse(text, option.emplace()), "{}: {} is '{}', which has the wrong type", where, name, text);
  });
  if (found) return;
  throw Error(fmt::format("{}: '{}' is not an option of models, expected one of {}{}", where, name,
                          fmt::join(names, ", "), nearest_hint(name, names)));
}

std::string to_config_json(const Model& model, const PretrainedConfig& preprocessing,
                           const std::vector<std::string>& label_names) {
  const PretrainedConfig& p = preprocessing;
  const Json classifier = p.classifier.size() == 1 ? Json(p.classifier[0]) : Json(p.classifier);  // as timm writes it
  const Json config = {{"architecture", model.name()},
                       {"num_classes", model.classes()},
                       {"pretrained_cfg",
                        {{"input_size", p.input_size},
                         {"interpolation", p.interpolation},
                         {"crop_pct", p.crop_pct},
                         {"mean", p.mean},
                         {"std", p.std},
                         {"first_conv", p.first_conv},
                         {"classifier", classifier}}},
                       {"model_args", model_args(model.info().options)},
                       {"label_names", label_names}};
  return config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void save_weights(const fs::path& folder, const Model& model, const PretrainedConfig& preprocessing,
                  const std::vector<std::string>& label_names, WeightLayout layout) {
  VT_CHECK(layout != WeightLayout::torchvision, "{}: torchvision has no config.json, expected timm or huggingface",
           folder.string());
  const bool of_timm = layout == WeightLayout::timm;
  const StateDict weights = to_layout(model.state_dict(), layout);
  const std::string config =
      of_timm ? to_config_json(model, preprocessing, label_names) : to_huggingface_config(model, label_names);
  make_folder(folder);
  write_file_atomically(folder / "config.json", config);
  if (!of_timm) write_file_atomically(folder / "preprocessor_config.json", to_huggingface_preprocessing(preprocessing));
  write_safetensors(folder / "model.safetensors", weights, {{"format", "pt"}});
}

StateDict read_weights(const fs::path& path) { return read_weight_file(path).tensors; }

namespace {

/// "[384, 384]" as "384": timm writes both sides of an image, ours are square.
std::string one_side(const std::string& text) {
  PerStage sides;
  const bool two = text.starts_with("[") && parse(text, sides) && sides.values.size() == 2;
  return two && sides.values[0] == sides.values[1] ? std::to_string(sides.values[0]) : text;
}

/// What timm's config.json says of the model.
Model model_of_timm(const ConfigFile& config) {
  ModelOptions options;
  if (config.has("num_classes")) {
    options.num_classes = config.get<std::int64_t>("num_classes", 0);
    VT_CHECK(*options.num_classes >= 0, "{}: is {}, expected 0 or more", config.where("num_classes"),
             *options.num_classes);
  }
  for (const auto& [key, text] : config.members("model_args")) {
    if (key == "num_classes") continue;  // as above
    set_model_option(options, key, key == "img_size" ? one_side(text) : text, config.where("model_args"));
  }
  try {
    return create_model(config.get<std::string>("architecture", ""), options);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", config.where("architecture"), error.what()));
  }
}

LoadedModel model_of(const fs::path& folder) {
  VT_CHECK(fs::exists(folder / "config.json"),
           "{}: does not exist, expected a file that tells which model the weights are of (vitrine eval also takes "
           "--model NAME)",
           (folder / "config.json").string());
  const ConfigFile config(folder / "config.json");
  if (config.has("architecture")) {
    Model model = model_of_timm(config);
    const PretrainedConfig preprocessing = read_preprocessing(config, model.pretrained_config());
    return {std::move(model), preprocessing, config.get("label_names", std::vector<std::string>{}), {}};
  }
  VT_CHECK(config.has("model_type"), "{}: is missing, expected the name of a model (or model_type, of Hugging Face)",
           config.where("architecture"));
  HuggingFaceModel described = read_huggingface_model(config);
  Model model = create_model(described.name, described.options);
  const PretrainedConfig preprocessing = read_huggingface_preprocessing(folder, model.pretrained_config());
  return {std::move(model), preprocessing, std::move(described.label_names), {}};
}

}  // namespace

PretrainedConfig preprocessing_of_weights(const fs::path& path, const PretrainedConfig& fallback) {
  const fs::path folder = fs::is_directory(path) ? weights_folder(path) : path.parent_path();
  if (!fs::exists(folder / "config.json")) return fallback;
  const ConfigFile config(folder / "config.json");
  return config.has("architecture") ? read_preprocessing(config, fallback)
                                    : read_huggingface_preprocessing(folder, fallback);
}

LoadedModel load_model(const fs::path& path) {
  VT_CHECK(fs::exists(path), "{}: does not exist, expected a folder with weights or a file in one", path.string());
  LoadedModel loaded = model_of(fs::is_directory(path) ? weights_folder(path) : path.parent_path());
  for (std::string& note : load_weight_file(loaded.model, path).notes) {
    loaded.notes.push_back(fmt::format("{}: {}", path.string(), note));
  }
  return loaded;
}

}  // namespace vitrine
