// Evaluation: loss, top-1 and top-5 of a model on a dataset.
#pragma once

#include <cstdint>
#include <functional>

#include "data/loader/batch_source.h"
#include "models/registry.h"
#include "train/recipe/placement.h"

namespace vitrine {

struct Evaluation {
  std::int64_t images = 0;
  double loss = 0;            // mean cross-entropy, without smoothing
  double top1 = 0, top5 = 0;  // percent of images whose label has the largest logit, one of the five largest
};

/// Runs the model in inference mode over epoch 0 of the batches. `progress`, where given, is called
/// after each batch and may return false to stop early; then the figures are those of the images
/// seen.
Evaluation evaluate(const Model& model, BatchSource& batches, Placement placement = {},
                    const std::function<bool(std::int64_t done, std::int64_t total)>& progress = {});

/// For each image, how many classes have a larger logit than the label: 0 is right by top-1, below
/// 5 by top-5. Of equal logits, that of the lower class ranks first; in a row with NaN, the label
/// ranks last. logits (B, K) f32 on the CPU, labels (B) i64.
std::vector<std::int64_t> label_ranks(const Tensor& logits, const Tensor& labels);

}  // namespace vitrine
