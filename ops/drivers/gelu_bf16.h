// GELU where the result becomes bf16, on a GPU: the formulas of ops/drivers/math.h with the
// hardware's reciprocal and power of two. Their errors, some 2^-20, vanish in the rounding to bf16
// (2^-9); what math::gelu does against them would take three times as long as moving the elements.
#pragma once

#include "ops/drivers/math.h"
#include "ops/drivers/tensor_core.h"

#if VT_CUDA
namespace vitrine {

/// |x| as far as the tail reaches, v of ops/drivers/math.h, and e^(-z^2/2).
struct NormalTail {
  float z, v, density;
  __device__ explicit NormalTail(float x) {
    z = math::clamp(math::abs(x), 0.0f, math::normal_tail_end);
    v = 2 * z * reciprocal_approx(z + 4);
    density = exp2_approx(z * z * (-0.5f * math::log2_e));
  }
};

__device__ inline float gelu_for_bf16(float x) {
  const NormalTail tail(x);
  return (x > 0 ? x : 0.0f) - tail.v * math::gelu_ratio(tail.v) * tail.density;
}

__device__ inline float gelu_slope_for_bf16(float x) {
  const NormalTail tail(x);
  const float s = math::gelu_slope_ratio(tail.z, tail.v) * tail.density;
  return x < 0 ? s : 1 - s;
}

}  // namespace vitrine
#endif
