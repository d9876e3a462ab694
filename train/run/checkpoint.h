// Checkpoint: all that a training run is made of between two updates, in one safetensors file, so
// that it goes on bit for bit.
//
// The file holds the weights under their own names (any tool can read them), "ema/<name>" for their
// moving average, "optimizer/<name>" for the optimiser's moments, and in its metadata the recipe
// (YAML) and the position (JSON).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "nn/module.h"
#include "optim/optimizer.h"
#include "weights/names/checkpoint_prefixes.h"

namespace vitrine {

inline constexpr double unknown_figure = std::numeric_limits<double>::quiet_NaN();

/// What distillation did, in percent of the training images. Unknown without a teacher,
/// between_heads also with one head.
struct DistillationSummary {
  double teacher_right = unknown_figure;  // of mixed images, about the larger part
  double student_agrees = unknown_figure;
  double between_heads = unknown_figure;
};

/// On how many training images two of the answers were the same class: see Distillation::agreement.
struct AgreementCounts {
  double teacher_right = 0;  // the teacher's and the label
  double with_teacher = 0;   // the student's first head's and the teacher's
  double between_heads = 0;  // the student's first and last head's

  /// The counts in the order of Distillation::agreement and of checkpoints.
  static auto all(auto& counts) {
    return std::array{&counts.teacher_right, &counts.with_teacher, &counts.between_heads};
  }

  AgreementCounts& operator+=(const AgreementCounts& other) {
    teacher_right += other.teacher_right;
    with_teacher += other.with_teacher;
    between_heads += other.between_heads;
    return *this;
  }
};

/// One line of summary.csv. Figures of an epoch without evaluation are unknown.
struct EpochSummary {
  std::int64_t epoch = 0;
  double train_loss = 0;
  double eval_loss = 0;
  double eval_top1 = 0, eval_top5 = 0;  // percent
  double lr = 0;
  double images_per_second = 0;  // in training
  double seconds = 0;            // since the run began, evaluation included, pauses excluded
  DistillationSummary distillation = {};
};

/// Where a run is. The order of samples and their augmentation follow from (seed, epoch, batch);
/// dropout from `generator`.
struct RunState {
  std::int64_t epoch = 0;  // under way
  std::int64_t batch = 0;  // next of this epoch
  std::int64_t step = 0;   // updates so far
  Generator generator;
  double loss_sum = 0;  // of this epoch's images so far
  std::int64_t loss_images = 0;
  AgreementCounts agreement;   // of these images
  std::optional<double> best;  // value of the metric, larger is better
  std::int64_t best_epoch = -1;
  double seconds = 0;
  std::vector<EpochSummary> history;
};

struct Checkpoint {
  StateDict weights;
  StateDict average;  // empty without a moving average
  OptimizerState optimizer;
  RunState run;
  std::string recipe;  // YAML
};

/// Replaces the file atomically. The tensors may be views of the live ones.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// An Error that names the file and the reason where it is damaged or is no checkpoint.
Checkpoint load_checkpoint(const std::filesystem::path& path);

/// The recipe alone, without reading the tensors.
std::string read_checkpoint_recipe(const std::filesystem::path& path);

/// `path`, or `path`/last.safetensors where it is a folder.
std::filesystem::path checkpoint_file(const std::filesystem::path& path);

}  // namespace vitrine
