// Batch: what the loader hands to the training loop.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace vitrine {

struct Batch {
  Tensor images;   // (B, 3, H, W) f32
  Tensor labels;   // (B) i64: the class before any mixing
  Tensor targets;  // (B, K) f32: smoothed and mixed class probabilities; undefined where the loader does no
                   // mixing
  std::vector<std::int64_t> indices;  // (B) which samples of the dataset
  std::int64_t epoch = 0;
  std::int64_t number = 0;  // position in the epoch, 0 ... batches_per_epoch - 1

  std::int64_t size() const { return static_cast<std::int64_t>(indices.size()); }
};

}  // namespace vitrine
