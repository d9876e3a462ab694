// run_block: how models call the blocks that they are a stack of.
#pragma once

#include <string>
#include <vector>

#include "autograd/recompute.h"
#include "nn/module.h"

namespace vitrine {

/// block(x, pass). With pass.recompute the tape keeps x alone, and backward computes the inside of
/// the block again. Not for blocks with running statistics, which would move twice.
template <Module Block>
Tensor run_block(const Block& block, const Tensor& x, const Pass& pass) {
  if (!pass.recompute) return block(x, pass);
  std::vector<const Parameter*> parameters;
  for_each_parameter(block, [&](const std::string&, const Parameter& p) { parameters.push_back(&p); });
  const auto run = [&block, training = pass.training](const Tensor& input, Generator* generator) {
    return block(input, Pass{.training = training, .generator = generator});
  };
  return recompute(run, x, pass.generator, parameters);
}

}  // namespace vitrine
