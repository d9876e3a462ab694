// vitrine augment: a contact sheet of what a recipe makes of images.
#include <fmt/core.h>

#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/recipe_options.h"
#include "data/formats/formats.h"
#include "train/recipe/augmentation_sheet.h"

namespace vitrine {
namespace {

struct AugmentOptions {
  RecipeOptions recipe;
  std::vector<std::string> images;
  std::string output = "augmented.png";
  int versions = 7;
};

/// The settings of a recipe that change what training sees.
std::vector<std::string> visible_settings() {
  std::vector<std::string> names = {"model", "model-kwargs", "img-size",      "in-chans",
                                    "mean",  "std",          "interpolation", "seed"};
  for (const RecipeField& field : recipe_fields()) {
    const bool visible = field.name != "smoothing" && field.name != "aug-repeats" && field.name != "mixup-off-epoch";
    if (field.group == "Augmentation" && visible) names.push_back(field.name);
  }
  return names;
}

int run_augment(const AugmentOptions& options) {
  const Recipe recipe = options.recipe.apply();
  const PretrainedConfig config = from_flags([&] {
    check_augmentation(recipe);
    return preprocessing(recipe, create_model(recipe.model, model_options(recipe, 2)));
  });
  std::vector<NamedPicture> pictures;
  for (const std::string& path : options.images) {
    pictures.push_back({std::filesystem::path(path).filename().string(), read_image(path)});
  }
  const Image sheet = augmentation_sheet(recipe, config, pictures, options.versions);
  write_png(sheet, options.output);
  fmt::print("{}: {}x{} pixels, {} images, {} versions of each{}\n", options.output, sheet.width, sheet.height,
             pictures.size(), options.versions, recipe.aa.empty() ? "" : ", policy " + recipe.aa);
  const std::string missing = not_shown(recipe, pictures.size());
  if (!missing.empty()) fmt::print("{}\n", missing);
  return exit_success;
}

}  // namespace

void add_augment(CLI::App& program, int& exit_code) {
  CLI::App* command =
      program.add_subcommand("augment", "show what training sees: vitrine augment IMAGE... -c RECIPE --output FILE");
  const auto options = std::make_shared<AugmentOptions>();
  command->add_option("images", options->images, "JPEG or PNG files")->required()->type_name("IMAGE");
  command->add_option("-o,--output", options->output, "PNG file to write")->type_name("FILE")->capture_default_str();
  command->add_option("--versions", options->versions, "augmented pictures of each image")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  options->recipe.add_config_to(*command);
  options->recipe.add_to(*command, visible_settings());
  command->callback([options, &exit_code] { exit_code = run_augment(*options); });
}

}  // namespace vitrine
