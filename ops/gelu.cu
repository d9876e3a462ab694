// GELU: x times the probability that a standard normal variable is at most x. Hendrycks and Gimpel 2016.
//
// The numerical work is in ops/drivers/math.h, which keeps the negative tail exact; here it meets the tape. Forward and
// backward are one pass each, and only x is saved.
#include "ops/composed.h"
#include "ops/drivers/elementwise.h"
#include "ops/drivers/math.h"
#include "ops/ops.h"

namespace vitrine {

// ---- y = x P(X <= x), or y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); any shape ----

namespace {

template <GeluForm form>
struct Gelu {
  template <class T>
  VT_HD T operator()(T x) const {
    return form == GeluForm::erf ? math::gelu(x) : math::gelu_tanh(x);
  }
};

// ---- dx = dy dy/dx ----

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
  return record("gelu", y, {x}, [x = Saved(x, "gelu")](const Tensor& dy, Chain& chain) {
    chain.add(0, map_floating("gelu", GeluBackward<form>{}, dy, *x));
  });
}

}  // namespace

// ---- The same from primitive ops, and the public function ----

Tensor gelu_composed(const Tensor& x, GeluForm form) {
  const double sqrt_half = 0.70710678118654752440;
  const Tensor inner = form == GeluForm::erf
                           ? erf(x * sqrt_half)
                           : tanh((x + x * x * x * math::gelu_tanh_cubic) * (math::gelu_tanh_linear / 2));
  return x * (inner + 1.0) * 0.5;
}

Tensor gelu(const Tensor& x, GeluForm form) {
  if (is_recording_twice()) return gelu_composed(x, form);
  return form == GeluForm::erf ? gelu_fused<GeluForm::erf>(x) : gelu_fused<GeluForm::tanh>(x);
}

}  // namespace vitrine
