// StepResult: the loss and the gradient norm of a training step. On a GPU it is read back while the
// next step runs, packed into one small tensor whose order only step_result.cpp knows.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/read_back.h"
#include "tensor/tensor.h"
#include "train/run/checkpoint.h"

namespace vitrine {

/// A training step in figures, on the host.
struct StepResult {
  std::int64_t images = 0;
  double loss_sum = 0;             // of these images
  double gradient_norm = 0;        // L2, before clipping
  bool skipped = false;            // loss or gradient was not finite, so that the weights stayed as they were
  AgreementCounts agreement = {};  // with a teacher; else 0
};

/// The same on the device, as sums over the micro-batches.
class StepSums {
 public:
  /// Adds a micro-batch: its mean loss (), and Distillation::agreement (undefined without a
  /// teacher).
  void add(const Tensor& mean_loss, const Tensor& agreement, std::int64_t images);

  const Tensor& loss_sum() const { return loss_sum_; }  // f64 (1)

  /// One f64 tensor with these sums and Optimizer::statistics(), for a PendingStepResult.
  Tensor pack(const Tensor& statistics) const;

 private:
  Tensor loss_sum_, agreement_;
};

/// A StepResult on its way from the device to the host.
class PendingStepResult {
 public:
  /// Queues the copy of what StepSums::pack gave for a step on that number of images.
  PendingStepResult(const Tensor& packed, std::int64_t images) : packed_(packed), images_(images) {}

  std::int64_t images() const { return images_; }

  /// Waits where the copy is still under way.
  StepResult get() const;

 private:
  ReadBack packed_;
  std::int64_t images_;
};

}  // namespace vitrine
