// Trainer: the training loop. Epochs of batches; for each, a tape, a loss, a backward pass, a clipped step, the moving average;
// after each epoch an evaluation and a checkpoint.
//
//   Trainer trainer(recipe, observer);
//   if (trainer.run() == Trainer::Outcome::stopped) ...   // saved; `--resume` goes on bit for bit
//
// The library prints nothing: a TrainObserver hears what happens.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "models/registry.h"
#include "optim/average.h"
#include "tensor/read_back.h"
#include "train/evaluate.h"
#include "train/observer.h"
#include "train/recipe/batches.h"
#include "train/recipe/setup.h"
#include "train/run/run_folder.h"
#include "train/weight_update.h"

namespace vitrine {

class Trainer {
 public:
  /// Opens the data, builds the model and the run folder, or picks up the run that `recipe.resume` names. The observer must
  /// outlive the trainer. Errors name the flag or file that is to blame.
  Trainer(Recipe recipe, TrainObserver& observer);

  enum class Outcome { finished, stopped };

  /// Trains to the last epoch, or until the observer or a limit of the recipe stops it between two updates; in both cases the
  /// state is saved. A loss or gradient that is not finite is an Error that names the first bad parameter, and the first op
  /// to give inf or NaN; the weights and the files are then as they were before that update.
  Outcome run();

  const RunState& state() const { return state_; }
  const RunFolder& folder() const { return *folder_; }
  const Model& model() const { return *model_; }

 private:
  void build_model();
  void load_first_weights();
  void prepare_images_as_for(const std::string& weights);
  void start_or_resume();
  void describe() const;

  /// What an update gave, on its way back from the device.
  struct UpdateResult {
    ReadBack numbers;  // WeightUpdate::Result::numbers
    std::int64_t batch, parts, images;
    Generator generator;  // as it was before
  };

  bool train_epoch();
  void update_weights();
  double learning_rate_of(std::int64_t step, std::int64_t epoch) const;
  void settle();
  [[noreturn]] void report_non_finite(const UpdateResult& result, double loss);
  bool must_stop() const;
  bool finish_epoch();
  void report_progress() const;
  void report_bad_samples();
  void report(const DistillationSummary& summary) const;
  DistillationSummary summarize_distillation() const;

  const Model& evaluated_model() const { return average_model_ ? *average_model_ : *model_; }
  std::int64_t updates_per_epoch() const;
  Checkpoint snapshot();
  void restore(const Checkpoint& checkpoint);

  Recipe recipe_;
  TrainObserver& observer_;
  Placement placement_;
  TrainingData data_;
  std::optional<Model> model_, average_model_;
  PretrainedConfig preprocessing_;
  Batches train_batches_, val_batches_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<ParameterAverage> average_;
  std::optional<Distillation> distillation_;
  std::optional<WeightUpdate> weight_update_;
  Schedule schedule_;
  std::optional<RunFolder> folder_;
  RunState state_;
  std::optional<UpdateResult> pending_;  // of the last update

  // Of this process alone, for speed, the time left and the time limit.
  using Clock = std::chrono::steady_clock;
  Clock::time_point began_ = Clock::now();
  double seconds_before_ = 0;  // of the run, before this process
  double training_seconds_ = 0, evaluation_seconds_ = 0;
  std::int64_t images_trained_ = 0;
  std::set<std::string> bad_samples_reported_;
};

}  // namespace vitrine
