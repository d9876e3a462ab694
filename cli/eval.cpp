// vitrine eval: loss, top-1 and top-5 of saved weights on a dataset.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/recipe_options.h"
#include "tensor/parallel.h"
#include "train/evaluate.h"
#include "train/recipe/bare_weights.h"
#include "train/recipe/match_classes.h"
#include "train/recipe/setup.h"
#include "weights/files/config_file.h"

namespace vitrine {
namespace {

struct EvalOptions {
  RecipeOptions recipe;
  std::string checkpoint;
  bool json = false;
};

/// The recipe of the run whose folder the checkpoint lies in: its data, unless flags name other
/// data. Without a run, nothing but defaults.
Recipe recipe_of_run(const std::filesystem::path& checkpoint) {
  const auto folder = std::filesystem::is_directory(checkpoint) ? checkpoint : checkpoint.parent_path();
  const auto args = folder / "args.yaml";
  if (!std::filesystem::exists(args)) return {};
  Recipe recipe = read_recipe(args);
  if (!recipe.crop_pct && recipe.train_crop != "resized") recipe.crop_pct = 1;  // as in training: see preprocessing()
  return recipe;
}

/// Weights without config.json need the model's name; flags win over how config.json, or else the
/// model, prepares images.
LoadedModel open_model(const EvalOptions& options, const Recipe& recipe, const Dataset& data) {
  if (options.recipe.has("model")) return load_bare_weights(options.checkpoint, recipe, data.num_classes());
  for (const char* flag : {"img-size", "in-chans", "num-classes", "model-kwargs"}) {
    if (options.recipe.has(flag))
      throw UsageError(fmt::format("--{}: needs --model: config.json tells it otherwise", flag));
  }
  LoadedModel loaded = load_model(options.checkpoint);
  loaded.preprocessing = stated_preprocessing(options.recipe.apply(), loaded.preprocessing);
  return loaded;
}

/// The data in the class order of the weights, where no flag tells it and the two orders differ.
/// Names of classes tell it; else weights with timm's config.json have natural order, and others
/// are taken to be sorted, with a warning.
DatasetPtr in_order_of_weights(const std::filesystem::path& checkpoint, LoadedModel& loaded, Recipe recipe,
                               DatasetPtr data) {
  const std::vector<std::string>& names = data->class_names();
  if (!recipe.class_order.empty() || !orders_differ(names)) return data;
  const auto folder = std::filesystem::is_directory(checkpoint) ? checkpoint : checkpoint.parent_path();
  const auto config = folder / "config.json";
  const bool is_named = !loaded.label_names.empty();
  const bool is_timms = !is_named && std::filesystem::exists(config) && ConfigFile(config).has("pretrained_cfg");
  if (is_timms || in_order(names, ClassOrder::natural) == loaded.label_names) {
    if (is_timms) {
      loaded.notes.push_back("class folders in natural order, as timm has it; --class-order sorted for torchvision's");
    }
    recipe.class_order = "natural";
    return open_split(recipe, recipe.val_split);
  }
  if (!is_named) {
    loaded.notes.push_back(
        "warning: class folders are sorted as torchvision does it, and the weights name no classes; "
        "if they were trained by timm, give --class-order natural");
  }
  return data;
}

int run_eval(const EvalOptions& options) {
  VT_CHECK(std::filesystem::exists(options.checkpoint), "{}: no such file or folder", options.checkpoint);
  const Recipe recipe = options.recipe.apply(recipe_of_run(options.checkpoint));
  if (recipe.dataset != "shapes" && recipe.data_dir.empty()) {
    throw UsageError("--data-dir: is not given, expected a folder with images (or --dataset shapes)");
  }
  if (recipe.threads > 0) set_num_threads(static_cast<int>(recipe.threads));
  const Placement placement = from_flags([&] {
    if (options.recipe.has("model")) summarize_model(recipe.model, model_options(recipe, 1));
    return open_placement(recipe);
  });
  DatasetPtr data = open_split(recipe, recipe.val_split);
  LoadedModel loaded = open_model(options, recipe, *data);
  data = in_order_of_weights(options.checkpoint, loaded, recipe, data);
  const MatchedClasses matched = match_classes(data, loaded, options.checkpoint);
  for (const std::string& note : data->notes()) fmt::print(stderr, "data: {}\n", note);
  for (const std::string& note : loaded.notes) fmt::print(stderr, "{}\n", note);
  for (const std::string& note : matched.notes) fmt::print(stderr, "{}\n", note);
  loaded.model.move_to(placement.device);
  Loader loader(matched.data, eval_transform(loaded.preprocessing), eval_loader_options(recipe));
  const Evaluation result = evaluate(loaded.model, loader, placement);
  if (options.json) {
    const nlohmann::ordered_json json = {{"model", loaded.model.name()},
                                         {"images", result.images},
                                         {"loss", result.loss},
                                         {"top1", result.top1},
                                         {"top5", result.top5}};
    fmt::print("{}\n", json.dump());
  } else {
    fmt::print("{}: {} images, loss {:.4f}, top-1 {:.2f}%, top-5 {:.2f}%\n", loaded.model.name(), result.images,
               result.loss, result.top1, result.top5);
  }
  for (const std::string& bad : loader.bad_samples()) fmt::print(stderr, "replaced an unreadable image: {}\n", bad);
  return exit_success;
}

}  // namespace

void add_eval(CLI::App& program, int& exit_code) {
  CLI::App* command =
      program.add_subcommand("eval", "evaluate weights: vitrine eval --checkpoint RUN --data-dir FOLDER");
  const auto options = std::make_shared<EvalOptions>();
  command->add_option("--checkpoint", options->checkpoint, "run folder, weights folder or file of weights")->required();
  command->add_flag("--json", options->json, "print one JSON object");
  options->recipe.add_to(*command,
                         {"data-dir",   "dataset", "class-order", "val-split",    "val-num-samples", "seed",
                          "batch-size", "workers", "bad-samples", "threads",      "device",          "amp",
                          "amp-dtype",  "model",   "num-classes", "img-size",     "in-chans",        "model-kwargs",
                          "crop-pct",   "mean",    "std",         "interpolation"});
  command->callback([options, &exit_code] { exit_code = run_eval(*options); });
}

}  // namespace vitrine
