// torchvision's presets, and a model from a name and a file.
#include "train/recipe/bare_weights.h"

#include <fmt/ranges.h>

#include <map>

#include "train/recipe/setup.h"
#include "weights/load_weights.h"

namespace vitrine {

PretrainedConfig torchvision_preprocessing(const Model& model) {
  static const std::map<std::string, double> resized_to = {{"vit_large_patch16_224", 242},
                                                           {"swin_tiny_patch4_window7_224", 232},
                                                           {"swin_small_patch4_window7_224", 246},
                                                           {"swin_base_patch4_window7_224", 238}};
  PretrainedConfig p = model.pretrained_config();
  const auto side = static_cast<double>(p.input_size[1]);
  const auto found = resized_to.find(model.name());
  const bool is_cropped = side == 224;
  p.mean = {0.485, 0.456, 0.406};
  p.std = {0.229, 0.224, 0.225};
  p.crop_pct = is_cropped ? side / (found == resized_to.end() ? 256 : found->second) : 1;
  p.interpolation = is_cropped && !model.name().starts_with("swin_") ? "bilinear" : "bicubic";
  return p;
}

LoadedModel load_bare_weights(const std::filesystem::path& path, const Recipe& recipe, std::int64_t classes) {
  Model model = create_model(recipe.model, model_options(recipe, classes));
  WeightLoad load = load_weight_file(model, path);
  const bool is_torchvisions = load.layout == WeightLayout::torchvision;
  PretrainedConfig prepared =
      stated_preprocessing(recipe, is_torchvisions ? torchvision_preprocessing(model) : model.pretrained_config());
  if (is_torchvisions) {
    load.notes.push_back(fmt::format(
        "the names are torchvision's, so images are prepared as there, unless --mean, --std, --crop-pct or "
        "--interpolation say otherwise: mean {:.3g}, std {:.3g}, crop-pct {:.4g}, {}",
        fmt::join(prepared.mean, " "), fmt::join(prepared.std, " "), prepared.crop_pct, prepared.interpolation));
  }
  return {std::move(model), std::move(prepared), {}, std::move(load.notes)};
}

}  // namespace vitrine
