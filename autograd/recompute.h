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

/// Must give the same y for the same x and generator, and use no other parameters than it is said
/// to.
using Recomputable = std::function<Tensor(const Tensor& x, Generator* generator)>;

/// f(x, generator). In backward f sees the generator, which may be nullptr, as it was now. The
/// parameters must stay in place until then; a change of their elements is an error, as it is of
/// any tensor that backward needs.
/// Where no tape records, or where the gradient is to be differentiated again, it is f alone.
Tensor recompute(const Recomputable& f, const Tensor& x, Generator* generator,
                 const std::vector<const Parameter*>& parameters);

}  // namespace vitrine
