// AdamW: Adam with weight decay decoupled from the gradient. Loshchilov and Hutter 2019, algorithm 2; PyTorch's semantics.
#pragma once

#include "optim/optimizer.h"

namespace vitrine {

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;  // in [0, 1)
  double epsilon = 1e-8;
};

/// With g the gradient, t the number of this step, from 1:
///   p -= lr weight_decay p;   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
///   p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
class AdamW final : public Optimizer {
 public:
  explicit AdamW(std::vector<ParameterGroup> groups, AdamWOptions options = {});
  using Optimizer::step;

 private:
  void prepare(const std::vector<ArenaSegment>& segments) override;
  void update(const std::vector<ArenaSegment>& segments) override;
  AdamWOptions options_;
};

}  // namespace vitrine
