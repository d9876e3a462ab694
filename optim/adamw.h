// AdamW: Adam with weight decay decoupled from the gradient. Loshchilov and Hutter 2019, algorithm
// 2; PyTorch's semantics.
#pragma once

#include "optim/fused_optimizer.h"

namespace vitrine {

struct AdamWOptions {
  static constexpr const char* name = "adamw";

  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;  // in [0, 1)
  double epsilon = 1e-8;

  void check() const;
};

/// With g the gradient, t the number of this step, from 1:
///   p -= lr weight_decay p;   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
///   p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
template <class T>
struct AdamWUpdate;

extern template class FusedUpdate<AdamWOptions, AdamWUpdate>;
using AdamW = FusedOptimizer<AdamWOptions, AdamWUpdate>;

}  // namespace vitrine
