// Lion: the sign of a moving average of the gradient. Chen et al. 2023, "Symbolic discovery of
// optimization algorithms", program 1; timm's semantics. All elements move alike, so lr is to be 3
// to 10 times smaller than AdamW's, and the weight decay as many times larger (section 5 there).
#pragma once

#include "optim/fused_optimizer.h"

namespace vitrine {

struct LionOptions {
  static constexpr const char* name = "lion";

  double learning_rate = 1e-4;
  double beta1 = 0.9, beta2 = 0.99;  // in [0, 1)

  void check() const;
};

/// With g the gradient:
///   p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p);   m = beta2 m + (1 - beta2) g
template <class T>
struct LionUpdate;

extern template class FusedUpdate<LionOptions, LionUpdate>;
using Lion = FusedOptimizer<LionOptions, LionUpdate>;

}  // namespace vitrine
