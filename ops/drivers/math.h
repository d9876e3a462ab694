// Elementary functions for functors: branch-free on float, so that loops over them vectorise; the C
// library on double.
//
// Each float function reduces its argument to a small interval and evaluates a polynomial there:
// the one with the smallest largest relative error (found with the Remez exchange algorithm). A
// choice between two formulas is a select, never a jump, so a loop over such a function runs at the
// speed of the arithmetic. The same code compiles for the GPU.
//
// Errors, in units in the last place of the result (ulp), for all finite arguments: 2 for exp,
// expm1, log, log1p, tanh, erf, sigmoid, softplus and rsqrt; 4 for silu, gelu, gelu_slope and
// gelu_tanh. NaN gives NaN. tests/ops/test_math.cpp measures it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "tensor/device/host_device.h"

namespace vitrine::math {

// ---- Building blocks ----

/// a b + c with one rounding. Where the processor has no such instruction, float products are exact
/// in double.
VT_HD inline float fused(float a, float b, float c) {
#if defined(__FMA__) || defined(__CUDA_ARCH__) || defined(__ARM_FEATURE_FMA)
  return std::fma(a, b, c);
#else
  return static_cast<float>(static_cast<double>(a) * b + c);
#endif
}

/// first + rest[0] x + rest[1] x^2 + ..., by Horner's rule.
template <class... Rest>
VT_HD float polynomial(float x, float first, Rest... rest) {
  if constexpr (sizeof...(rest) == 0) {
    return first;
  } else {
    return fused(polynomial(x, rest...), x, first);
  }
}

/// 2^n for -126 <= n <= 127, from the bits of a float: sign, 8 bits of exponent + 127, 23 bits of
/// mantissa.
VT_HD inline float power_of_two(std::int32_t n) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(n + 127) << 23);
}

inline constexpr float ln2_high = 0x1.62e43p-1f;   // ln 2 rounded to float
inline constexpr float ln2_low = -0x1.05c61p-29f;  // ln 2 - ln2_high
inline constexpr float log2_e = 0x1.715476p+0f;

/// x = n ln 2 + r with |r| <= ln 2 / 2, for |x| < 2^21; r = high + low in two floats.
struct ExponentSplit {
  std::int32_t n;
  float high, low;
};
VT_HD inline ExponentSplit split_exponent(float x) {
  // Floats around it are whole numbers: adding it rounds, and leaves n in the low bits.
  constexpr float shift = 0x1.8p23f;
  const float shifted = fused(x, log2_e, shift);
  const float n = shifted - shift;
  return {std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(shift), fused(n, -ln2_high, x),
          -n * ln2_low};
}

/// e^r - 1 for r = high + low, |r| <= ln 2 / 2: r + r^2 (1/2 + r/6 + ...).
VT_HD inline float expm1_near_zero(float high, float low) {
  const float r = high + low;
  return high + fused(r * r,
                      polynomial(r, 0.49999998115f, 0.16666543232f, 0.04166721117f, 0.0083665788015f, 0.0013881943197f),
                      low);
}

/// A number as a product of two floats, neither of which is subnormal or infinite although the
/// product may be.
struct Product {
  float mantissa, scale;
};
/// 2^n (1 + m).
VT_HD inline Product scaled(std::int32_t n, float m) {
  const std::int32_t half = n >> 1;
  return {(1 + m) * power_of_two(n - half), power_of_two(half)};
}

/// x within [low, high]; NaN stays NaN.
template <class T>
VT_HD T clamp(T x, T low, T high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

VT_HD inline float abs(float x) { return std::fabs(x); }
VT_HD inline double abs(double x) { return std::fabs(x); }
VT_HD inline float sqrt(float x) { return std::sqrt(x); }
VT_HD inline double sqrt(double x) { return std::sqrt(x); }
VT_HD inline float rsqrt(float x) { return 1 / std::sqrt(x); }
VT_HD inline double rsqrt(double x) { return 1 / std::sqrt(x); }

// ---- Exponential and logarithm ----

/// e^x = 2^n e^r for x = high + low in two floats, -112 <= x <= 89.
VT_HD inline Product exp_product(float high, float low = 0) {
  const auto [n, r_high, r_low] = split_exponent(high);
  return scaled(n, expm1_near_zero(r_high, r_low + low));
}
VT_HD inline float exp(float x) {
  const Product e = exp_product(clamp(x, -112.0f, 89.0f));  // beyond: 0 and infinity
  return e.mantissa * e.scale;
}
VT_HD inline double exp(double x) { return std::exp(x); }

/// e^x - 1 = 2^n (e^r - 1) + (2^n - 1), without the cancellation near 0.
VT_HD inline float expm1(float x) {
  const auto [n, high, low] = split_exponent(clamp(x, -20.0f, 89.0f));  // below: -1
  const float half_scale = power_of_two(n - 1);                         // half of 2^n, which may be 2^128
  return 2 * fused(expm1_near_zero(high, low), half_scale, half_scale - 0.5f);
}
VT_HD inline double expm1(double x) { return std::expm1(x); }

/// ln x = e ln 2 + ln(1 + f) with sqrt(1/2) <= 1 + f < sqrt 2.
VT_HD inline float log(float x) {
  const bool subnormal = x < std::numeric_limits<float>::min();
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(subnormal ? x * 0x1p23f : x);
  constexpr std::uint32_t sqrt_half = 0x3F3504F3;  // its bits as a float
  const std::int32_t exponent = static_cast<std::int32_t>(bits - sqrt_half) >> 23;
  const float f = std::bit_cast<float>(bits - (static_cast<std::uint32_t>(exponent) << 23)) - 1;
  const float e = static_cast<float>(exponent) - (subnormal ? 23.0f : 0.0f);
  const float cubic = f * polynomial(f, 0.33333331636f, -0.25000822581f, 0.20001234803f, -0.16623301237f,
                                     0.14201526532f, -0.13160542485f, 0.12763485574f, -0.076359323157f);
  const float tail = fused(e, ln2_low, f * f * (cubic - 0.5f));
  const float y = fused(e, ln2_high, f + tail);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const float outside = x == 0 ? -infinity : std::numeric_limits<float>::quiet_NaN();
  return x > 0 ? (x < infinity ? y : x) : outside;
}
VT_HD inline double log(double x) { return std::log(x); }

/// ln(1 + x) = ln u + (x - (u - 1)) / u with u = 1 + x rounded: the second term puts back what the
/// rounding lost.
VT_HD inline float log1p(float x) {
  const float u = 1 + x;
  const float lost = (x - (u - 1)) / u;
  return log(u) + (u > 0 && u < std::numeric_limits<float>::infinity() ? lost : 0.0f);
}
VT_HD inline double log1p(double x) { return std::log1p(x); }

// Not for hot loops: these call the C library in double.
VT_HD inline double pow(double x, double y) { return std::pow(x, y); }
VT_HD inline float pow(float x, float y) { return static_cast<float>(std::pow(static_cast<double>(x), y)); }
VT_HD inline double sin(double x) { return std::sin(x); }
VT_HD inline float sin(float x) { return static_cast<float>(std::sin(static_cast<double>(x))); }
VT_HD inline double cos(double x) { return std::cos(x); }
VT_HD inline float cos(float x) { return static_cast<float>(std::cos(static_cast<double>(x))); }

// ---- Sigmoids ----

/// x + x^3 P(x^2) near 0, sign(x) (1 - 2 e / (1 + e)) with e = e^(-2 |x|) elsewhere.
VT_HD inline float tanh(float x) {
  const float z = abs(x), square = z * z;
  const float near = fused(
      z * square,
      polynomial(square, -0.3333329801f, 0.13331924481f, -0.053783848574f, 0.020796003011f, -0.0058951686604f), z);
  const float e = exp(-2 * z);
  return std::copysign(z < 0.6f ? near : 1 - 2 * e / (1 + e), x);
}
VT_HD inline double tanh(double x) { return std::tanh(x); }

/// 1 / (1 + e) for 0 <= e <= 1, correctly rounded but for rare cases: one Newton step on the
/// rounded quotient.
VT_HD inline float inverse_of_one_plus(float e) {
  const float y = 1 / (1 + e);
  return fused(y, fused(-y, e, 1 - y), y);
}

/// 1 / (1 + e^-x), from e^-|x| so that nothing overflows.
VT_HD inline float sigmoid(float x) {
  const float e = exp(-abs(x)), y = inverse_of_one_plus(e);
  return x < 0 ? e * y : y;
}
VT_HD inline double sigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return (x < 0 ? e : 1.0) / (1 + e);
}

/// x sigmoid(x). The clamp makes 0 of -infinity, which times 0 would be NaN.
VT_HD inline float silu(float x) {
  const float z = clamp(abs(x), 0.0f, 112.0f);
  const Product e = exp_product(-z);
  const float y = inverse_of_one_plus(e.mantissa * e.scale);
  return x < 0 ? -z * e.mantissa * y * e.scale : x * y;
}
VT_HD inline double silu(double x) { return (x < -1000 ? -1000 : x) * sigmoid(x); }

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
template <class T>
VT_HD T softplus(T x) {
  return (x > 0 ? x : T(0)) + log1p(exp(-abs(x)));
}

/// x + x P(x^2) near 0, sign(x) (1 - e^(-|x| Q(|x|))) elsewhere, with polynomials P and Q.
VT_HD inline float erf(float x) {
  const float z = clamp(abs(x), 0.0f, 4.0f), square = z * z;  // beyond: 1
  const float near = fused(z,
                           polynomial(square, 0.12837916639f, -0.3761263496f, 0.11283715052f, -0.026860509341f,
                                      0.0052038603623f, -0.00081756445887f, 8.513099806e-5f),
                           z);
  const float q = polynomial(z, 1.1285199408f, 0.635699411f, 0.10528679562f, -0.022905991516f, 0.0032199624417f,
                             -0.00021459332067f);
  return std::copysign(z < 0.9f ? near : 1 - exp(-z * q), x);
}
VT_HD inline double erf(double x) { return std::erf(x); }

// ---- The normal distribution, for GELU ----
//
// With z = |x|, P the standard normal distribution function and p its density:
//   gelu(x)       = x P(x)           = max(x, 0) - z P(-z)
//   gelu_slope(x) = P(x) + x p(x)    = s for x < 0, 1 - s for x >= 0,  with s = P(-z) - z p(z)
// Both P(-z) and s are e^(-z^2/2) times a smooth function, so the tail keeps its relative accuracy
// where 1 + erf would have none left. s has a zero at z0 = 0.7518 (the minimum of gelu), which is
// divided out for accuracy near it. The smooth functions are polynomials in v - 1 with v = 2 z / (z
// + 4), which maps [0, 15] to [0, 1.58]. Beyond 14.9 the tail is 0.

inline constexpr float normal_tail_end = 14.9f;

/// e^(-z^2/2) for z <= 14.9. z^2 is kept in two floats: its rounding error alone would be up to 56
/// ulp of the result.
VT_HD inline Product gaussian(float z) {
  const float square = z * z, square_error = fused(z, z, -square);
  return exp_product(-0.5f * square, -0.5f * square_error);
}

/// v = 2 z / (z + 4), with the rounding error of the quotient corrected.
VT_HD inline float tail_variable(float z) {
  const float inverse = 1 / (z + 4), v = 2 * z * inverse;
  const float error = fused(-v, z, fused(-4.0f, v, 2 * z));  // 2 z - v (z + 4)
  return fused(inverse, error, v);
}

/// z P(-z) e^(z^2/2) / v
VT_HD inline float gelu_ratio(float v) {
  return polynomial(v - 1, 0.37764256763f, -0.3039482899f, 0.1935684582f, -0.09326182868f, 0.030201744491f,
                    -0.0037619996608f, -0.0017551025504f, 0.0007842011596f, 8.7323950136e-05f, -6.7100261656e-05f);
}

/// x P(X <= x) for a standard normal X.
VT_HD inline float gelu(float x) {
  const float z = clamp(abs(x), 0.0f, normal_tail_end), v = tail_variable(z);
  const Product e = gaussian(z);
  return (x > 0 ? x : 0.0f) - v * gelu_ratio(v) * e.scale * e.mantissa;
}
VT_HD inline double gelu(double x) {
  const double z = clamp(std::fabs(x), 0.0, 40.0);
  return (x > 0 ? x : 0.0) - z * std::erfc(z * 0.70710678118654752440) / 2;
}

/// s e^(z^2/2)
VT_HD inline float gelu_slope_ratio(float z, float v) {
  constexpr float zero_high = 0x1.80ead2p-1f, zero_low = -0x1.a03fd4p-27f;  // z0 as the sum of two floats
  const float smooth =
      polynomial(v - 1, 0.46221124431f, -0.10336589954f, 0.060462912861f, -0.028083331777f, 0.0095053127074f,
                 -0.001788393911f, -0.00015657683642f, 0.00018554428149f, -1.3084873632e-5f, -1.6106402645e-5f);
  return ((zero_high - z) + zero_low) * smooth;
}

/// d gelu / dx.
VT_HD inline float gelu_slope(float x) {
  const float z = clamp(abs(x), 0.0f, normal_tail_end), v = tail_variable(z);
  const Product e = gaussian(z);
  const float s = gelu_slope_ratio(z, v) * e.scale * e.mantissa;
  return x < 0 ? s : 1 - s;
}
VT_HD inline double gelu_slope(double x) {
  const double z = clamp(std::fabs(x), 0.0, 40.0);
  const double s = std::erfc(z * 0.70710678118654752440) / 2 - z * 0.39894228040143267794 * std::exp(-z * z / 2);
  return x < 0 ? s : 1 - s;
}

// ---- The tanh form of GELU ----
//
//   gelu_tanh(x) = x sigmoid(w(x)), w(x) = 2 sqrt(2/pi) (x + 0.044715 x^3); by symmetry max(x, 0) - z sigmoid(-w(z)).
//   Its slope is s for x < 0 and 1 - s for x >= 0, with s = sigmoid(-w) (1 - z w' sigmoid(w)) at z = |x|.

inline constexpr double gelu_tanh_linear = 1.5957691216057307117;  // 2 sqrt(2/pi)
inline constexpr double gelu_tanh_cubic = 0.044715;

/// w(z), in double: an error in it would grow by w in the tail.
VT_HD inline double gelu_tanh_argument(double z) { return gelu_tanh_linear * z * (1 + gelu_tanh_cubic * z * z); }

/// w'(z) z
template <class T>
VT_HD T gelu_tanh_argument_slope(T z) {
  return T(gelu_tanh_linear) * z * (1 + T(3 * gelu_tanh_cubic) * z * z);
}

VT_HD inline Product gelu_tanh_exponential(float z) {  // e^-w
  const double w = gelu_tanh_argument(z);
  const float high = static_cast<float>(-w);
  return exp_product(high, static_cast<float>(-w - high));
}

VT_HD inline float gelu_tanh(float x) {
  const float z = clamp(abs(x), 0.0f, 12.0f);
  const Product e = gelu_tanh_exponential(z);
  return (x > 0 ? x : 0.0f) - z * inverse_of_one_plus(e.mantissa * e.scale) * e.scale * e.mantissa;
}
VT_HD inline double gelu_tanh(double x) {
  const double z = clamp(std::fabs(x), 0.0, 40.0);
  return (x > 0 ? x : 0.0) - z * sigmoid(-gelu_tanh_argument(z));
}

VT_HD inline float gelu_tanh_slope(float x) {
  const float z = clamp(abs(x), 0.0f, 12.0f);
  const Product e = gelu_tanh_exponential(z);
  const float y = inverse_of_one_plus(e.mantissa * e.scale);
  const float s = (1 - gelu_tanh_argument_slope(z) * y) * y * e.scale * e.mantissa;
  return x < 0 ? s : 1 - s;
}
VT_HD inline double gelu_tanh_slope(double x) {
  const double z = clamp(std::fabs(x), 0.0, 40.0), y = sigmoid(gelu_tanh_argument(z));
  const double s = sigmoid(-gelu_tanh_argument(z)) * (1 - gelu_tanh_argument_slope(z) * y);
  return x < 0 ? s : 1 - s;
}

}  // namespace vitrine::math
