// Stochastic gradient descent with momentum, plain or Nesterov's; PyTorch's semantics.
#pragma once

#include "optim/fused_optimizer.h"

namespace vitrine {

struct SgdOptions {
  static constexpr const char* name = "sgd";

  double learning_rate = 1e-2;
  double momentum = 0.9;  // in [0, 1)
  bool nesterov = false;

  void check() const;
};

/// With g the gradient (weight decay is added to it: g += weight_decay p):
///   m = momentum m + g (m = g in the first step)
///   p -= lr m, or with Nesterov p -= lr (g + momentum m)
template <class T>
struct SgdUpdate;

extern template class FusedUpdate<SgdOptions, SgdUpdate>;
using Sgd = FusedOptimizer<SgdOptions, SgdUpdate>;

}  // namespace vitrine
