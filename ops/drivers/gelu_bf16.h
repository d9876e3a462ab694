// GELU where the result becomes bf16, on a GPU. The formulas are those of ops/drivers/math.h, with
// shorter polynomials and the hardware's reciprocal and power of two. Their errors, 2^-17 at most,
// vanish in the rounding to bf16 (2^-9); what math::gelu does against them would take three times
// as long as moving the elements.
#pragma once

#include "ops/drivers/math.h"
#include "ops/drivers/tensor_core.h"

#if VT_CUDA
namespace vitrine {

/// z = |x| as far as the tail reaches, 1 / (z + 4), and e^(-z^2/2).
struct NormalTail {
  float z, inverse, density;
  __device__ explicit NormalTail(float x) {
    z = math::clamp(math::abs(x), 0.0f, math::normal_tail_end);
    inverse = reciprocal_approx(z + 4);
    density = exp2_approx(z * z * (-0.5f * math::log2_e));
  }
};

// The polynomials in 1 / (z + 4) have the least largest relative error for z in [0, 14.9]: 2^-20.2
// and 2^-20.0, fitted in double by Lawson's reweighted least squares.

/// x P(X <= x) = max(x, 0) - z P(-z), where the polynomial is P(-z) e^(z^2/2).
__device__ inline float gelu_for_bf16(float x) {
  const NormalTail tail(x);
  const float ratio = math::polynomial(tail.inverse, 0.000118372933f, 0.389859051f, 1.88841188f, 0.829000175f,
                                       74.7548752f, -274.967133f, 1383.02161f, -1469.67761f);
  return math::fused(-tail.z * ratio, tail.density, x > 0 ? x : 0.0f);
}

/// s for x < 0, 1 - s for x >= 0, with s = P(-z) - z p(z), where the polynomial is s e^(z^2/2) /
/// (z0 - z): it leaves the zero of s at z0 = 0.7518 to the difference.
__device__ inline float gelu_slope_for_bf16(float x) {
  const NormalTail tail(x);
  const float ratio = math::polynomial(tail.inverse, 0.398713708f, 0.313802749f, 0.686892152f, 7.57980537f,
                                       -20.4022484f, 134.778809f, -103.93454f);
  const float s = (0.75179152f - tail.z) * ratio * tail.density;
  return x < 0 ? s : 1 - s;
}

}  // namespace vitrine
#endif
