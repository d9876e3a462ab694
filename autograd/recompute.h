// recompute: less memory for more time. The tape keeps what enters a function and nothing of its
// inside; backward runs the function once more, under a tape of its own. Chen et al. 2016,
// "Training deep nets with sublinear memory cost".
//
//   y = recompute([&](const Tensor& x, Generator* generator) { return block(x, {true, generator}); }, x, generator, parameters);
#pragma once

#include <functional>
#include <vector>

#include "autograd/parameter.h"
#include "tensor/philox.h"

namespace vitrine {

/// Must return the same y for the same x and generator, and use only the parameters that are passed
/// to `recompute`.
using Recomputable = std::function<Tensor(const Tensor& x, Generator* generator)>;

/// Returns f(x, generator). Backward calls f once more with the generator's state of this call (the
/// generator may be nullptr). The Parameter objects must not move before that; a change of their
/// elements is an error, as it is of any tensor that backward needs.
/// If no tape records, or the gradient has to be differentiable again, this only calls f.
Tensor recompute(const Recomputable& f, const Tensor& x, Generator* generator,
                 const std::vector<const Parameter*>& parameters);

}  // namespace vitrine
