// TrainStep: one training step. TrainStep::step in train_step.cpp is all of it, from the forward
// pass to the moving average of the weights; graph_step.h replays it as a CUDA graph.
#pragma once

#include <functional>
#include <string>

#include "data/loader/batch_source.h"
#include "models/registry.h"
#include "optim/average.h"
#include "optim/optimizer.h"
#include "train/distillation.h"
#include "train/graph_step.h"
#include "train/recipe/placement.h"
#include "train/recipe/recipe.h"
#include "train/step_result.h"

namespace vitrine {

class TrainStep {
 public:
  /// All must outlive the step; `average` and `distillation` may be null.
  TrainStep(const Recipe& recipe, const Model& model, Optimizer& optimizer, ParameterAverage* average,
            const Distillation* distillation, Placement placement);

  /// Takes the next micro-batches from `batches`, with targets for binary cross-entropy and for
  /// graphs, and updates the weights once, at `learning_rate`. Does not wait for a GPU.
  PendingStepResult operator()(BatchSource& batches, std::int64_t micro_batches, double learning_rate,
                               Generator& generator);

  /// Computes the gradient of the next micro-batches and drops it: see first_non_finite in
  /// non_finite.h.
  std::string first_non_finite(BatchSource& batches, std::int64_t micro_batches, Generator generator) const;

 private:
  /// The loss of a micro-batch.
  struct Loss {
    Tensor mean;       // (), over the images
    Tensor agreement;  // Distillation::agreement; undefined without a teacher
  };

  Tensor step(std::int64_t micro_batches, const std::function<MicroBatch()>& next_batch, Generator& generator,
              bool is_recorded);
  Loss forward(const MicroBatch& batch, Generator& generator) const;
  Tensor task_loss(const Tensor& logits, const MicroBatch& batch) const;
  MicroBatch on_device(const Batch& batch) const;
  bool can_replay(const Batch& batch, std::int64_t micro_batches) const;

  const Recipe& recipe_;
  const Model& model_;
  Optimizer& optimizer_;
  ParameterAverage* average_;
  const Distillation* distillation_;
  Placement placement_;
  GraphStep graph_step_;
  std::int64_t steps_without_graph_ = 0;
};

}  // namespace vitrine
