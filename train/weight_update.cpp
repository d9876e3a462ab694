// The update in the ordinary way, then as a graph.
#include "train/weight_update.h"

#include "autograd/tape.h"
#include "ops/ops.h"
#include "train/non_finite.h"

namespace vitrine {

WeightUpdate::WeightUpdate(const Recipe& recipe, const Model& model, Optimizer& optimizer, ParameterAverage* average,
                           const Distillation* distillation, Placement placement)
    : recipe_(recipe),
      model_(model),
      optimizer_(optimizer),
      average_(average),
      distillation_(distillation),
      placement_(placement) {}

WeightUpdate::Result WeightUpdate::operator()(BatchSource& batches, std::int64_t parts, double learning_rate,
                                              Generator& generator) {
  optimizer_.set_learning_rate(learning_rate);
  // Once there is a graph, a batch is best written to where the graph reads it.
  std::optional<Batch> batch = batches.next_into({graph_inputs_.images, graph_inputs_.targets});
  if (can_replay(*batch, parts)) return {replay(*batch, generator), batch->size()};

  Result result;
  Tensor sums;
  for (std::int64_t part = 0; part < parts; ++part) {
    if (part > 0) batch = batches.next();
    const Tensor loss = backward(inputs_of(*batch), 1.0 / static_cast<double>(parts), generator);
    sums = part > 0 ? sums + loss : loss;
    result.images += batch->size();
  }
  optimizer_.prepare_step();
  result.numbers = finish(sums);
  ++updates_;
  return result;
}

std::string WeightUpdate::first_non_finite(BatchSource& batches, std::int64_t parts, Generator generator) const {
  return vitrine::first_non_finite([&] {
    for (std::int64_t part = 0; part < parts; ++part) {
      Tape tape;
      Tensor counts;
      tape.backward(loss_of(inputs_of(*batches.next()), generator, counts));
    }
  });
}

WeightUpdate::Inputs WeightUpdate::inputs_of(const Batch& batch) const {
  const Device device = placement_.device;
  return {.images = to_device(batch.images, device),
          .labels = batch.labels,
          .targets = batch.targets.defined() ? to_device(batch.targets, device) : batch.targets};
}

Tensor WeightUpdate::task_loss(const Tensor& logits, const Inputs& inputs) const {
  if (recipe_.bce_loss) return binary_cross_entropy(logits, inputs.targets);
  if (inputs.targets.defined()) return soft_cross_entropy(logits, inputs.targets);
  return cross_entropy(logits, inputs.labels, recipe_.smoothing);
}

/// The mean loss of the batch. With a teacher, `counts` becomes Distillation::agreement.
Tensor WeightUpdate::loss_of(const Inputs& inputs, Generator& generator, Tensor& counts) const {
  const Tensor images = placement_.place(inputs.images);
  const Pass pass{.training = true, .generator = &generator, .recompute = recipe_.grad_checkpointing};
  if (!distillation_) return task_loss(cast(model_(images, pass), DType::f32), inputs);
  std::vector<Tensor> heads = model_.forward_heads(images, pass);
  for (Tensor& logits : heads) logits = cast(logits, DType::f32);
  const Tensor taught = distillation_->teach(inputs.images);
  const Tensor classes = inputs.targets.defined() ? argmax(inputs.targets, 1) : inputs.labels;
  counts = Distillation::agreement(heads, taught, classes);
  return distillation_->loss()(heads, taught, [&](const Tensor& logits) { return task_loss(logits, inputs); });
}

/// Adds the gradient, times `share`, to what the optimiser has gathered. Returns the sum of the images' losses, f64 (1), and
/// with a teacher three counts behind it.
Tensor WeightUpdate::backward(const Inputs& inputs, double share, Generator& generator) const {
  Tape tape;
  Tensor counts;
  const Tensor loss = loss_of(inputs, generator, counts);
  optimizer_.accumulate(tape.backward(loss), share);
  const PauseRecording pause;
  const auto images = static_cast<double>(inputs.images.size(0));
  const Tensor loss_sum = reshape(cast(loss.detach(), DType::f64) * images, {1});
  return counts.defined() ? concat({loss_sum, counts}, 0) : loss_sum;
}

/// Moves the weights, once the optimiser is prepared. A loss or gradient that is not finite leaves them as they are.
Tensor WeightUpdate::finish(const Tensor& sums) const {
  const Tensor loss_sum = slice(sums, 0, 0, 1);
  optimizer_.run_step(recipe_.clip_grad, loss_sum);
  if (average_) average_->update();
  return concat({loss_sum, optimizer_.statistics(), slice(sums, 0, 1, sums.size(0))}, 0);
}

// ---- The same as a graph ----

/// Whole updates from one batch of full size, after two in the ordinary way have set everything up. A graph cannot look at labels
/// on the host.
bool WeightUpdate::can_replay(const Batch& batch, std::int64_t parts) const {
  return placement_.device.is_cuda() && recipe_.cuda_graph && parts == 1 && updates_ >= 2 &&
         batch.size() == recipe_.batch_size && batch.targets.defined();
}

Tensor WeightUpdate::replay(const Batch& batch, Generator& generator) {
  const Inputs inputs = inputs_of(batch);
  optimizer_.prepare_step();
  if (!graph_) {
    graph_inputs_ = inputs;
    random_base_ = zeros({1}, DType::i64, placement_.device);
    Generator recorded{.seed = generator.seed,
                       .base = reinterpret_cast<const std::uint64_t*>(random_base_.data<std::int64_t>())};
    release_cached_memory(placement_.device);  // the graph needs about as much for itself
    graph_.emplace(placement_.device, [&] { graph_numbers_ = finish(backward(graph_inputs_, 1, recorded)); });
    graph_draws_ = recorded.count;
  } else {
    const auto bring = [](Tensor& target, const Tensor& source) {
      if (source.raw_data() != target.raw_data()) copy_into(target, source);
    };
    bring(graph_inputs_.images, inputs.images);
    bring(graph_inputs_.targets, inputs.targets);
  }
  copy_into(random_base_, full({1}, static_cast<double>(generator.count), DType::i64));
  graph_->replay();
  generator.count += graph_draws_;
  return graph_numbers_;
}

}  // namespace vitrine
