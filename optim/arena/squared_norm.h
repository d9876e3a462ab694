// The sum of squares of a flat tensor in double, with the same bits for any number of threads.
#pragma once

#include <vector>

#include "optim/arena/arena_segment.h"
#include "tensor/tensor.h"

namespace vitrine {

/// Elements of the tensor of statistics, f64 (3), that an optimiser keeps on the device of its
/// parameters.
enum StepStatistic {
  gradient_norm_squared,  // of the gradient that was measured last
  clip_coefficient,       // what clipping multiplies it with, at most 1
  skipped_steps,          // updates that were not made since a gradient was not finite
};

/// Measures the segments of the arena `gradients`, and fills the statistics for an update that
/// clips to `max_norm` (0: not at all). `loss`, where defined, is one f64 on the same device, which
/// must be finite too. Does not wait for a GPU.
void measure_gradients(const Tensor& gradients, const std::vector<ArenaSegment>& segments, double max_norm,
                       const Tensor& loss, Tensor& statistics);

/// Sum of x_i^2 over a row-major f32 or f64 tensor. Not finite if and only if an element is not,
/// f64 overflow aside.
double squared_norm(const Tensor& x);

}  // namespace vitrine
