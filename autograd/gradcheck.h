// Gradient checking: compares what backward returns with finite differences, entry by entry of the
// full Jacobian.
//
//   auto report = check_gradients([](const auto& x) { return gelu(x[0]); }, {x});
//   if (!report.passed) fmt::print("{}\n", report.message);
//
// The check is in float64 with the 4-point stencil f'(x) ~ (-f(x+2h) + 8f(x+h) - 8f(x-h) + f(x-2h))
// / 12h, whose error is O(h^4): with h = 1e-3 both truncation and rounding stay near 1e-12, so the
// bounds can be tight. Comparisons fail on NaN.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "tensor/tensor.h"

namespace vitrine {

/// A function of tensors, recorded on whichever tape is alive. It must be deterministic and keep
/// its inputs unchanged.
using TensorFunction = std::function<Tensor(const std::vector<Tensor>&)>;

struct GradcheckOptions {
  double step = 1e-3;
  double relative_tolerance = 1e-7;
  double absolute_tolerance = 1e-9;
  /// 0: every entry of the Jacobian J. k: only u^T J v for k random pairs of directions and each
  /// input, which takes 4 k calls of the function instead of 4 for every element; it misses a
  /// mistake only where that is below the bounds on the whole.
  int directions = 0;
};

struct GradcheckReport {
  bool passed = true;
  std::int64_t entries = 0;         // Jacobian entries, or directions, compared
  double worst_relative_error = 0;  // |a - n| / max(|a|, |n|, absolute/relative tolerance); NaN counts as infinity
  std::string message;              // where the worst entry is, e.g. "d y(3) / d x1(2, 0): backward 0.5, numeric 0.25"
};

/// Checks d function / d inputs. Inputs that are not f64 (indices, masks) are passed through
/// unchecked; at least one must be f64; they may be on any device. The function sees row-major
/// copies; to check another layout, take the view inside it:
///   check_gradients([](const auto& x) { return gelu(transpose(x[0])); }, {x});
GradcheckReport check_gradients(const TensorFunction& function, const std::vector<Tensor>& inputs,
                                GradcheckOptions options = {});

/// Checks the gradients of a scalar-or-tensor function with respect to f64 parameters, each by
/// name, for users' modules.
GradcheckReport check_parameter_gradients(const std::function<Tensor()>& function,
                                          const std::vector<NamedParameter>& parameters, GradcheckOptions options = {});

}  // namespace vitrine
