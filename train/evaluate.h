// Evaluation: loss, top-1 and top-5 of a model on a dataset.
#pragma once

#include <cstdint>
#include <functional>

#include "data/loader/batch_source.h"
#include "models/registry.h"

namespace vitrine {

struct Evaluation {
  std::int64_t images = 0;
  double loss = 0;            // mean cross-entropy, without smoothing
  double top1 = 0, top5 = 0;  // percent of images whose label is the best, among the best five
};

/// Where a model runs, and the dtype of its images and activations: f32, or bf16 for mixed precision.
struct Placement {
  Device device = cpu;
  DType dtype = DType::f32;
  Tensor place(const Tensor& images) const { return cast_data(to_device(images, device), dtype); }
};

/// Runs the model in inference mode over epoch 0 of the batches. `progress`, where given, is called after each batch and may
/// return false to stop early; then the figures are those of the images seen.
Evaluation evaluate(const Model& model, BatchSource& batches, Placement placement = {},
                    const std::function<bool(std::int64_t done, std::int64_t total)>& progress = {});

/// How many classes rank before the label: 0 is top-1, below 5 is top-5. Ties go to the lower class. A row with NaN ranks
/// behind everything. logits (B, K) f32 on the CPU, labels (B) i64.
std::vector<std::int64_t> label_ranks(const Tensor& logits, const Tensor& labels);

}  // namespace vitrine
