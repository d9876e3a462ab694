// Looks at every result of a tape through a hook.
#include "train/non_finite.h"

#include <cmath>

#include "autograd/op_hook.h"
#include "ops/ops.h"
#include "optim/arena/squared_norm.h"

namespace vitrine {
namespace {

bool is_finite(const Tensor& x) {
  if (!is_floating(x.dtype())) return true;
  return std::isfinite(squared_norm(contiguous(x.dtype() == DType::bf16 ? cast(x, DType::f32) : x.detach())));
}

}  // namespace

std::string first_non_finite(const std::function<void()>& forward_and_backward) {
  std::string first;
  const OpHook hook([&](const OpResult& result) {
    if (!first.empty() || is_finite(result.value)) return;
    const std::string of = result.is_gradient() ? fmt::format("the gradient of input {} of ", result.input) : "";
    first = fmt::format("{}{} {}", of, result.op, to_string(result.value.shape()));
  });
  forward_and_backward();
  return first;
}

}  // namespace vitrine
