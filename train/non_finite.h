// Finds the op of a training step that is the first to give inf or NaN.
#pragma once

#include <functional>
#include <string>

namespace vitrine {

/// Runs a forward and backward pass and names the first result that holds inf or NaN, by its op and
/// its shape: "log (128, 10)", "the gradient of input 0 of log (128, 10)"; empty where all are
/// finite. Slow: checks every element of every result.
std::string first_non_finite(const std::function<void()>& forward_and_backward);

}  // namespace vitrine
