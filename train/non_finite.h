// Where inf and NaN begin in a training step that has ended in them.
#pragma once

#include <functional>
#include <string>

namespace vitrine {

/// Runs a forward and backward pass and names the first result in it that holds inf or NaN, with the op it is of and its shape:
/// "log (128, 10)", "the gradient of input 0 of log (128, 10)"; empty where all are finite. Slow: looks at every number.
std::string first_non_finite(const std::function<void()>& forward_and_backward);

}  // namespace vitrine
