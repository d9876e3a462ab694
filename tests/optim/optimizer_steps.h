// What the tests of optimisers share: gradients that are given, random tensors.
#pragma once

#include <utility>
#include <vector>

#include "ops/ops.h"
#include "optim/optimizer.h"

namespace vitrine {

/// Runs a loss whose gradient is exactly `gradients`, in this order, through the tape.
inline Gradients gradients_of(Tape& tape, const std::vector<std::pair<Parameter*, Tensor>>& gradients) {
  const Tensor& first = gradients[0].second;
  Tensor loss = zeros({}, first.dtype(), first.device());
  for (const auto& [parameter, gradient] : gradients) loss = loss + sum(mul(Tensor(*parameter), gradient));
  return tape.backward(loss);
}

inline void step_with(Optimizer& optimizer, const std::vector<std::pair<Parameter*, Tensor>>& gradients) {
  Tape tape;
  optimizer.step(gradients_of(tape, gradients));
}

inline Tensor random_tensor(const Shape& shape, std::uint64_t stream, DType dtype = DType::f64, Device device = cpu) {
  std::vector<double> values(static_cast<std::size_t>(element_count(shape)));
  RandomSequence random(9, Purpose::test, stream);
  for (double& v : values) v = random.normal();
  return to_device(cast_data(from_vector(values, shape), dtype), device);
}

}  // namespace vitrine
