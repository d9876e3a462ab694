// vitrine train: reads the recipe and the flags, which win over it, and runs a Trainer, which
// leaves a run folder. Read on in train/trainer.cpp for the loop and in train/train_step.cpp for
// one step.
#include <fmt/ranges.h>

#include <cstdlib>
#include <memory>

#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/recipe_options.h"
#include "cli/signals.h"
#include "train/trainer.h"

namespace vitrine {
namespace {

/// An Error where a flag was changed that a resumed run has no use for.
void check_changes(const Recipe& run, const Recipe& given) {
  for (const RecipeField& field : recipe_fields()) {
    VT_CHECK(!field.only_begins || field_words(run, field) == field_words(given, field),
             "--{}: is '{}', but the run that --resume goes on with has '{}', which stays; leave it out", field.name,
             fmt::join(field_words(given, field), " "), fmt::join(field_words(run, field), " "));
  }
}

Recipe resolve(const RecipeOptions& options) {
  Recipe base, recipe = options.apply();
  const bool resumes = !recipe.resume.empty();
  if (resumes) {
    const auto file = checkpoint_file(recipe.resume);
    base = parse_recipe(read_checkpoint_recipe(file), file.string());
    base.max_steps = 0;  // a run that --max-steps stopped goes on
    recipe = options.apply(base);
  }
  from_flags([&] {
    if (resumes) check_changes(base, recipe);
    check_recipe(recipe);
    open_device(recipe.device);
    // Checks that the model has the options of the recipe. The number of classes is not known
    // before the data are open.
    summarize_model(recipe.model, model_options(recipe, 1));
  });
  return recipe;
}

void report_result(const Trainer& trainer) {
  const RunState& state = trainer.state();
  const auto& folder = trainer.folder().path();
  if (state.best_epoch >= 0) {
    const EpochSummary& best = state.history.at(static_cast<std::size_t>(state.best_epoch));
    fmt::print("best: epoch {}, top-1 {:.2f}%, top-5 {:.2f}%, eval loss {:.4f}\n", best.epoch, best.eval_top1,
               best.eval_top5, best.eval_loss);
  }
  fmt::print("figures of every epoch: {}\n", (folder / "summary.csv").string());
  fmt::print("best weights: {}\n", (folder / "model.safetensors").string());
  fmt::print("try them: vitrine predict --checkpoint {} IMAGE...\n", folder.string());
}

/// An Error where this is one of several processes that a launcher such as mpirun or torchrun has
/// started: each of them would train the whole model by itself.
void reject_multi_process() {
  for (const char* variable : {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* value = std::getenv(variable);
    VT_CHECK(!value || std::atoi(value) <= 1,
             "train: {} is {}, expected 1: training with several processes is not built", variable, value);
  }
}

int run_train(const RecipeOptions& options) {
  reject_multi_process();
  const Recipe recipe = resolve(options);
  catch_signals();
  PrintingObserver observer(recipe.log_interval);
  Trainer trainer(recipe, observer);
  if (trainer.run() == Trainer::Outcome::finished) {
    report_result(trainer);
    return exit_success;
  }
  const int signal = received_signal();
  fmt::print("stopped {}; go on with: vitrine train --resume {}\n",
             signal != 0 ? fmt::format("by signal {}", signal) : std::string("at the limit"),
             trainer.folder().path().string());
  return signal != 0 ? exit_signal + signal : exit_success;
}

}  // namespace

void add_train(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand("train", "train a model: vitrine train -c RECIPE --data-dir FOLDER");
  const auto options = std::make_shared<RecipeOptions>();
  options->add_config_to(*command);
  options->add_to(*command);
  command->callback([options, &exit_code] { exit_code = run_train(*options); });
}

}  // namespace vitrine
