// GELU: x times the probability that a standard normal variable X is at most x. Hendrycks and
// Gimpel 2016.
//
//   erf form    y = x P(X <= x),  P(X <= x) = (1 + erf(x / sqrt 2)) / 2
//   tanh form   y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
//
// x of any shape. The arithmetic is in ops/drivers/math.h, which keeps the negative tail exact;
// here it meets the tape. Forward and backward are one pass each, and only x is saved.
#include "ops/composed.h"
#include "ops/drivers/elementwise.h"
#include "ops/drivers/math.h"
#include "ops/ops.h"

namespace vitrine {

// ---- The definition ----

Tensor gelu_composed(const Tensor& x, GeluForm form) {
  const double sqrt_half = 0.70710678118654752440;
  const Tensor inner = form == GeluForm::erf
                           ? erf(x * sqrt_half)
                           : tanh((x + x * x * x * math::gelu_tanh_cubic) * (math::gelu_tanh_linear / 2));
  return x * (inner + 1.0) * 0.5;
}

// ---- The gradient ----
//
// The product rule. P has the normal density p(x) = e^(-x^2/2) / sqrt(2 pi) as its slope:
//   erf form    dx = dy (P(X <= x) + x p(x))
// And with w = 2 sqrt(2/pi) (x + 0.044715 x^3), y = x s for s = sigmoid(w), whose slope is s (1 -
// s) dw/dx:
//   tanh form   dx = dy (s + x s (1 - s) dw/dx)
// Why the second terms: a larger x is also taken with a larger probability.

namespace {

template <GeluForm form>
struct Gelu {
  template <class T>
  VT_HD T operator()(T x) const {
    return form == GeluForm::erf ? math::gelu(x) : math::gelu_tanh(x);
  }
};

template <GeluForm form>
struct GeluBackward {
  template <class T>
  VT_HD T operator()(T dy, T x) const {
    return dy * (form == GeluForm::erf ? math::gelu_slope(x) : math::gelu_tanh_slope(x));
  }
};

template <GeluForm form>
Tensor gelu_fused(const Tensor& x) {
  const Tensor y = map_floating("gelu", Gelu<form>{}, x);
  return record("gelu", y, {x}, [x = Saved(x, "gelu")](const Tensor& dy, BackwardContext& context) {
    context.add(0, map_floating("gelu", GeluBackward<form>{}, dy, *x));
  });
}

}  // namespace

Tensor gelu(const Tensor& x, GeluForm form) {
  if (is_recording_twice()) return gelu_composed(x, form);
  return form == GeluForm::erf ? gelu_fused<GeluForm::erf>(x) : gelu_fused<GeluForm::tanh>(x);
}

}  // namespace vitrine
