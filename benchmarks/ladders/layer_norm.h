// The ladders of LayerNorm over the last dim of x (rows, D), f32. Ba, Kiros, Hinton, "Layer
// normalization" (2016).
//
// With n = (x - mean) rstd and rstd = 1 / sqrt(variance + epsilon) of each row:
//   forward   y = n weight + bias
//   backward  g = dy weight;  dx = rstd (g - mean(g) - n mean(g n));  dweight = sum over rows of dy n;  dbias = of dy
#pragma once

#include "benchmarks/ladders/ladder.h"

namespace vitrine::ladders {

/// Larger than in a model, so that a rung that forgot it would be noticed.
inline constexpr float epsilon = 1e-3f;

/// The longest row, in elements, that the rungs with a row in the registers of a warp can hold; an
/// Error beyond.
inline constexpr int most_columns = 1024;

/// Size (rows, D). Inputs x (rows, D), weight (D), bias (D); result y (rows, D).
Ladder layer_norm_ladder();

/// Size (rows, D). Inputs x (rows, D), weight (D), dy (rows, D); results dx (rows, D), dweight (D),
/// dbias (D). What forward leaves behind, the mean and rstd of each row, is there before the clock
/// starts.
Ladder layer_norm_backward_ladder();

}  // namespace vitrine::ladders
