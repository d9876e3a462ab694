// vitrine summary NAME: layers, parameters and multiply-adds of a model.
#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "cli/recipe_options.h"
#include "train/recipe/setup.h"

namespace vitrine {
namespace {

struct SummaryOptions {
  RecipeOptions recipe;
  std::string name;
  bool json = false;
};

int run_summary(const SummaryOptions& options) {
  const Recipe recipe = options.recipe.apply();
  const ModelSummary summary = from_flags([&] {
    ModelOptions model = model_options(recipe, 0);
    if (recipe.num_classes == 0) model.num_classes.reset();  // the name's own
    return summarize_model(options.name, model);
  });
  fmt::print("{}\n", options.json ? to_json(summary) : to_table(summary));
  return exit_success;
}

}  // namespace

void add_summary(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand("summary", "layers, parameters and multiply-adds of a model");
  const auto options = std::make_shared<SummaryOptions>();
  command->add_option("name", options->name, "a name of `vitrine list-models`")->required()->type_name("NAME");
  command->add_flag("--json", options->json, "print one JSON object");
  options->recipe.add_to(*command, {"num-classes", "img-size", "in-chans", "model-kwargs"});
  command->callback([options, &exit_code] { exit_code = run_summary(*options); });
}

}  // namespace vitrine
