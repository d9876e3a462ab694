// ParameterAverage: an exponential moving average of a model's parameters, kept in a second model
// of the same shape.
#pragma once

#include <vector>

#include "autograd/parameter.h"

namespace vitrine {

/// After each step: average = decay average + (1 - decay) source. The target is a deep copy of the
/// model, which can be evaluated and saved like any other; its state dict is all that a checkpoint
/// needs.
class ParameterAverage {
 public:
  /// Both lists must have the same names, shapes and dtypes (f32 or f64) in the same order. 0 <=
  /// decay <= 1.
  ParameterAverage(std::vector<NamedParameter> source, std::vector<NamedParameter> target, double decay);

  void update();
  double decay() const { return decay_; }

 private:
  std::vector<NamedParameter> source_, target_;
  double decay_;
};

}  // namespace vitrine
