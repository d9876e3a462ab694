// Trainer: a training run. Epochs of training steps, and after each an evaluation and a checkpoint.
//
//   Trainer trainer(recipe, observer);
//   if (trainer.run() == Trainer::Outcome::stopped) ...   // saved; `--resume` goes on bit for bit
//
// The library prints nothing: a TrainObserver is told what happens. To read what a run does:
//
//   trainer.cpp      the loop: epochs, steps, evaluation, saving
//   train_step.cpp   one step: forward, loss, backward, clip, step, average
//   start.cpp        the objects of a run from its recipe (setup.h, batches.h), first weights, resuming
//   report.cpp       the lines for the observer
//
// and from the step on models/vit.cpp, for a model, and optim/adamw.cu, for an optimiser.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "models/registry.h"
#include "optim/average.h"
#include "train/evaluate.h"
#include "train/observer.h"
#include "train/recipe/batches.h"
#include "train/recipe/setup.h"
#include "train/run/run_folder.h"
#include "train/train_step.h"

namespace vitrine {

class Trainer {
 public:
  /// Opens the data, builds the model and the run folder, or picks up the run that `recipe.resume`
  /// names. The observer must outlive the trainer. Errors name the flag or file that is to blame.
  Trainer(Recipe recipe, TrainObserver& observer);

  enum class Outcome { finished, stopped };

  /// Trains to the last epoch, or until the observer or a limit of the recipe stops it between two
  /// steps; in both cases the state is saved. A loss or gradient that is not finite is an Error
  /// that names the first bad parameter, and the first op to give inf or NaN; the weights and the
  /// files are then as they were before that step.
  Outcome run();

  const RunState& state() const { return state_; }
  const RunFolder& folder() const { return *folder_; }
  const Model& model() const { return *model_; }

 private:
  /// A step whose result has not been looked at.
  struct StepInFlight {
    PendingStepResult result;
    std::int64_t first_batch, micro_batches;
    Generator generator;  // as it was before the step
  };

  // ---- The loop: trainer.cpp ----
  bool train_epoch();
  void update_weights();
  double learning_rate_at(std::int64_t step) const;
  void collect_result();
  [[noreturn]] void throw_non_finite(const StepInFlight& step, const StepResult& result);
  bool must_stop() const;
  bool finish_epoch();
  double seconds_of_run() const;

  // ---- start.cpp ----
  void build_model();
  void load_first_weights();
  void prepare_images_as_for(const std::string& weights);
  void start_or_resume();
  std::int64_t steps_per_epoch() const;
  Checkpoint snapshot();
  void restore(const Checkpoint& checkpoint);
  void find_position(std::int64_t batch_size);

  // ---- report.cpp ----
  void describe() const;
  void describe_learning_rate() const;
  void report_progress() const;
  void report_bad_samples();
  void report(const DistillationSummary& summary) const;
  DistillationSummary summarize_distillation() const;

  const Model& evaluated_model() const { return average_model_ ? *average_model_ : *model_; }

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
  std::optional<TrainStep> train_step_;
  PeakRate peak_rate_;
  Schedule schedule_;  // the learning rate of every step
  std::optional<RunFolder> folder_;
  RunState state_;
  std::optional<StepInFlight> in_flight_;  // the last step

  // Of this process alone, for speed, the time left and the time limit.
  using Clock = std::chrono::steady_clock;
  Clock::time_point began_ = Clock::now();
  double seconds_before_ = 0;  // of the run, before this process
  double training_seconds_ = 0, evaluation_seconds_ = 0;
  std::int64_t images_trained_ = 0;
  std::set<std::string> bad_samples_reported_;
};

}  // namespace vitrine
