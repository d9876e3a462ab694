// Stochastic gradient descent with momentum, plain or Nesterov's; PyTorch's semantics.
#pragma once

#include "optim/optimizer.h"

namespace vitrine {

struct SgdOptions {
  double learning_rate = 1e-2;
  double momentum = 0.9;  // in [0, 1)
  bool nesterov = false;
};

/// With g the gradient (weight decay is added to it: g += weight_decay p):
///   m = momentum m + g (m = g in the first step);   p -= lr m, or with Nesterov p -= lr (g + momentum m)
class Sgd final : public Optimizer {
 public:
  explicit Sgd(std::vector<ParameterGroup> groups, SgdOptions options = {});
  using Optimizer::step;

 private:
  void prepare(const std::vector<ArenaSegment>& segments) override;
  void update(const std::vector<ArenaSegment>& segments) override;
  SgdOptions options_;
};

}  // namespace vitrine
