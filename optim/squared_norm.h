// The sum of squares of a flat tensor in double, with the same bits for any number of threads.
#pragma once

#include "tensor/tensor.h"

namespace vitrine {

/// Sum of x_i^2 over a row-major f32 or f64 tensor. Not finite if and only if an element is not, f64 overflow aside.
double squared_norm(const Tensor& x);

}  // namespace vitrine
