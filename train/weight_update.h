// One update of the weights: forward, loss, backward, clipping, optimiser, moving average. On a GPU the whole of it is recorded
// once as a CUDA graph and then replayed.
#pragma once

#include <optional>
#include <string>

#include "data/loader/batch_source.h"
#include "models/registry.h"
#include "optim/average.h"
#include "optim/optimizer.h"
#include "tensor/device/graph.h"
#include "train/distillation.h"
#include "train/evaluate.h"
#include "train/recipe/recipe.h"

namespace vitrine {

class WeightUpdate {
 public:
  /// All must outlive the update; `average` and `distillation` may be null.
  WeightUpdate(const Recipe& recipe, const Model& model, Optimizer& optimizer, ParameterAverage* average,
               const Distillation* distillation, Placement placement);

  /// What an update gave: f64 (4) on the device, the sum of the images' losses, then the optimiser's statistics; with a teacher
  /// (7), then the counts of Distillation::agreement.
  struct Result {
    Tensor numbers;
    std::int64_t images = 0;
  };

  /// Takes `parts` batches, with targets for binary cross-entropy and for graphs, and updates the weights once, at
  /// `learning_rate`. Does not wait for a GPU.
  Result operator()(BatchSource& batches, std::int64_t parts, double learning_rate, Generator& generator);

  /// Computes the gradient of `parts` batches and drops it: see first_non_finite.
  std::string first_non_finite(BatchSource& batches, std::int64_t parts, Generator generator) const;

 private:
  /// One batch on the device of the model.
  struct Inputs {
    Tensor images;           // (B, C, H, W) f32, or in the model's dtype
    Tensor labels, targets;  // (B) on the CPU, or (B, K)
  };

  Inputs inputs_of(const Batch& batch) const;
  Tensor task_loss(const Tensor& logits, const Inputs& inputs) const;
  Tensor loss_of(const Inputs& inputs, Generator& generator, Tensor& counts) const;
  Tensor backward(const Inputs& inputs, double share, Generator& generator) const;
  Tensor finish(const Tensor& sums) const;
  bool can_replay(const Batch& batch, std::int64_t parts) const;
  Tensor replay(const Batch& batch, Generator& generator);

  const Recipe& recipe_;
  const Model& model_;
  Optimizer& optimizer_;
  ParameterAverage* average_;
  const Distillation* distillation_;
  Placement placement_;

  // The graph, what it reads and what it writes.
  std::optional<Graph> graph_;
  Inputs graph_inputs_;
  Tensor graph_numbers_, random_base_;  // random_base_: i64 (1), see Random::base
  std::uint64_t graph_draws_ = 0;       // random streams that one replay takes
  std::int64_t updates_ = 0;            // made in the ordinary way
};

}  // namespace vitrine
