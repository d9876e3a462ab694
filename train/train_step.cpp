// The training step, then its loss, then the choice whether it is replayed as a graph.
#include "train/train_step.h"

#include <utility>

#include "autograd/tape.h"
#include "ops/ops.h"
#include "train/non_finite.h"

namespace vitrine {

TrainStep::TrainStep(const Recipe& recipe, const Model& model, Optimizer& optimizer, ParameterAverage* average,
                     const Distillation* distillation, Placement placement)
    : recipe_(recipe),
      model_(model),
      optimizer_(optimizer),
      average_(average),
      distillation_(distillation),
      placement_(placement),
      graph_step_(placement.device) {}

// ---- The step ----

/// One training step, whose gradient is the mean over the micro-batches. On a GPU it only queues
/// work. Returns StepSums::pack. A step that is recorded as a graph is prepared before each replay.
Tensor TrainStep::step(std::int64_t micro_batches, const std::function<MicroBatch()>& next_batch, Generator& generator,
                       bool is_recorded) {
  StepSums sums;
  for (std::int64_t i = 0; i < micro_batches; ++i) {
    const MicroBatch batch = next_batch();
    Tape tape;
    const Loss loss = forward(batch, generator);
    optimizer_.accumulate(tape.backward(loss.mean), 1.0 / static_cast<double>(micro_batches));
    sums.add(loss.mean, loss.agreement, batch.size());
  }
  // Clips the norm of the gradient, then moves the weights one step against it; where the loss or
  // the gradient is not finite, it leaves the weights as they are.
  if (!is_recorded) optimizer_.prepare_step();
  optimizer_.run_step(recipe_.clip_grad, sums.loss_sum());
  if (average_) average_->update();
  return sums.pack(optimizer_.statistics());
}

/// The model's logits and the loss of them, which without a teacher is the task's.
TrainStep::Loss TrainStep::forward(const MicroBatch& batch, Generator& generator) const {
  const Tensor images = placement_.place(batch.images);
  const Pass pass{.training = true, .generator = &generator, .recompute = recipe_.grad_checkpointing};
  if (!distillation_) return {task_loss(cast(model_(images, pass), DType::f32), batch), {}};
  std::vector<Tensor> heads = model_.forward_heads(images, pass);
  for (Tensor& logits : heads) logits = cast(logits, DType::f32);
  const Tensor teacher = distillation_->teacher_logits(batch.images);
  const Tensor classes = batch.targets.defined() ? argmax(batch.targets, 1) : batch.labels;
  const auto task = [&](const Tensor& logits) { return task_loss(logits, batch); };
  return {distillation_->loss()(heads, teacher, task), Distillation::agreement(heads, teacher, classes)};
}

Tensor TrainStep::task_loss(const Tensor& logits, const MicroBatch& batch) const {
  if (recipe_.bce_loss) return binary_cross_entropy(logits, batch.targets);
  if (batch.targets.defined()) return soft_cross_entropy(logits, batch.targets);
  return cross_entropy(logits, batch.labels, recipe_.smoothing);
}

// ---- Its batches, and the graph ----

PendingStepResult TrainStep::operator()(BatchSource& batches, std::int64_t micro_batches, double learning_rate,
                                        Generator& generator) {
  optimizer_.set_learning_rate(learning_rate);
  std::optional<Batch> batch = batches.next_into(graph_step_.inputs());
  if (can_replay(*batch, micro_batches)) {
    optimizer_.prepare_step();
    const auto recorded = [this](const MicroBatch& inputs, Generator& draws) {
      return step(
          1, [&] { return inputs; }, draws, true);
    };
    return {graph_step_.replay(on_device(*batch), generator, recorded), batch->size()};
  }
  std::int64_t images = 0;
  const auto next_batch = [&] {
    if (images > 0) batch = batches.next();
    images += batch->size();
    return on_device(*batch);
  };
  const Tensor packed = step(micro_batches, next_batch, generator, false);
  ++steps_without_graph_;
  return {packed, images};
}

MicroBatch TrainStep::on_device(const Batch& batch) const {
  const Device device = placement_.device;
  return {.images = to_device(batch.images, device),
          .labels = batch.labels,
          .targets = batch.targets.defined() ? to_device(batch.targets, device) : batch.targets};
}

/// A graph holds a step on one whole batch, once two steps without a graph have set everything up.
/// It cannot check labels, which happens on the host.
bool TrainStep::can_replay(const Batch& batch, std::int64_t micro_batches) const {
  return placement_.device.is_cuda() && recipe_.cuda_graph && micro_batches == 1 && steps_without_graph_ >= 2 &&
         batch.size() == recipe_.batch_size && batch.targets.defined();
}

std::string TrainStep::first_non_finite(BatchSource& batches, std::int64_t micro_batches, Generator generator) const {
  return vitrine::first_non_finite([&] {
    for (std::int64_t i = 0; i < micro_batches; ++i) {
      Tape tape;
      tape.backward(forward(on_device(*batches.next()), generator).mean);
    }
  });
}

}  // namespace vitrine
