// GraphStep: a training step that is recorded once as a CUDA graph and then replayed, so that the
// host launches one graph in place of hundreds of kernels. The step itself is in train_step.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "data/loader/batch_source.h"
#include "nn/module.h"
#include "tensor/device/graph.h"

namespace vitrine {

/// A micro-batch on the device of the model.
struct MicroBatch {
  Tensor images;   // (B, C, H, W) f32, or in the model's dtype
  Tensor labels;   // (B) i64 on the CPU
  Tensor targets;  // (B, K) f32, for binary cross-entropy, mixed labels and graphs; else undefined

  std::int64_t size() const { return images.size(0); }
};

class GraphStep {
 public:
  explicit GraphStep(Device device) : device_(device) {}

  /// The tensors that the recorded step reads: a batch that is written there need not be copied.
  /// Undefined before the recording.
  BatchPlace inputs() const { return {inputs_.images, inputs_.targets}; }

  /// Replays a step on this batch, and takes as many random streams from the generator as the
  /// step did when it was recorded. The first call records `step`, which must have run twice
  /// without a graph; it may read images and targets of the batch, not labels, and gives its result
  /// as a tensor on the device. Later calls need batches of the same shape.
  Tensor replay(const MicroBatch& batch, Generator& generator,
                const std::function<Tensor(const MicroBatch&, Generator&)>& step);

 private:
  Device device_;
  std::optional<Graph> graph_;
  MicroBatch inputs_;
  Tensor result_;
  Tensor random_base_;       // i64 (1), see Random::base
  std::uint64_t draws_ = 0;  // random streams that one replay takes
};

}  // namespace vitrine
