// One call under a tape: its value and its gradients, to be compared with those of another.
#pragma once

#include "autograd/tape.h"
#include "op_table/op_table.h"

namespace vitrine {

/// The output of the call, then the gradients of its floating inputs, given the gradient `dy` of
/// the output (test_values where it is undefined).
inline Tensors value_and_gradients(const Call& call, const Tensors& inputs, const Tensor& dy = {}) {
  Tape tape;
  Tensors leaves;
  for (const Tensor& input : inputs) leaves.push_back(is_floating(input.dtype()) ? tape.watch(input) : input);
  Tensors results{call(leaves)};
  const Gradients gradients = tape.backward(results[0], dy.defined() ? dy : test_values(results[0].shape(), 77));
  for (const Tensor& leaf : leaves) {
    if (is_floating(leaf.dtype())) results.push_back(gradients[leaf]);
  }
  return results;
}

}  // namespace vitrine
