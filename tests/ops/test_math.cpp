// Measures the float functions of ops/drivers/math.h against the C library in double, in units in
// the last place (ulp).
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "ops/drivers/math.h"
#if defined(VT_HOST_CUDA)
#include "ops/drivers/gelu_bf16.h"  // device code, which only nvcc and this layer compile
#endif

namespace vitrine {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// |actual - expected| in units of the spacing of floats at `expected`. Beyond the largest float,
/// infinity is exact.
double ulp_error(float actual, double expected) {
  if (std::isnan(expected)) return std::isnan(actual) ? 0 : infinity;
  if (std::abs(expected) > std::numeric_limits<float>::max()) {
    return std::abs(actual) >= std::numeric_limits<float>::max() && (actual > 0) == (expected > 0) ? 0 : infinity;
  }
  int exponent = 0;
  std::frexp(expected, &exponent);
  return std::abs(actual - expected) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

struct Worst {
  double error = 0;
  float at = 0;
  void add(double candidate, float x) {
    if (!(candidate <= error)) *this = {candidate, x};
  }
};

/// The worst error over every `stride`-th of all finite floats, both signs, subnormals included;
/// and around `near`.
template <class F, class Reference>
Worst worst_ulp(const F& f, const Reference& reference, double near = 0) {
  constexpr std::uint64_t stride = 3001;  // a prime: all exponents and all kinds of mantissas are met
  Worst worst;
  const auto check = [&](float x) { worst.add(ulp_error(f(x), reference(static_cast<double>(x))), x); };
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += stride) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isfinite(x)) check(x);
  }
  const auto centre = std::bit_cast<std::int32_t>(static_cast<float>(near));
  for (std::int32_t step = near == 0 ? 0 : -2000; step <= 2000; ++step) check(std::bit_cast<float>(centre + step));
  return worst;
}

#define EXPECT_ULP(bound, ...)                                                    \
  do {                                                                            \
    const Worst worst = worst_ulp(__VA_ARGS__);                                   \
    EXPECT_TRUE(worst.error <= (bound)) << worst.error << " ulp at " << worst.at; \
  } while (false)

// ---- References that stay exact where the plain formula overflows or cancels ----

double sigmoid_reference(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
double softplus_reference(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double gelu_reference(double x) { return x * std::erfc(-x / std::sqrt(2.0)) / 2; }
double gelu_slope_reference(double x) {
  if (x > 0) return 1 - gelu_slope_reference(-x);
  return std::erfc(-x / std::sqrt(2.0)) / 2 + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
}
double gelu_tanh_reference(double x) {
  return x * sigmoid_reference(2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
}

TEST(Math, ExponentialAndLogarithmAreWithin2Ulp) {
  EXPECT_ULP(
      2, [](float x) { return math::exp(x); }, [](double x) { return std::exp(x); }, 88.7);
  EXPECT_ULP(
      2, [](float x) { return math::expm1(x); }, [](double x) { return std::expm1(x); }, 0.3466);
  EXPECT_ULP(
      2, [](float x) { return math::log(x); }, [](double x) { return std::log(x); }, 1);
  EXPECT_ULP(
      2, [](float x) { return math::log1p(x); }, [](double x) { return std::log1p(x); }, 1e-7);
}

TEST(Math, SigmoidsAreWithin2Ulp) {
  EXPECT_ULP(
      2, [](float x) { return math::tanh(x); }, [](double x) { return std::tanh(x); }, 0.6);
  EXPECT_ULP(
      2, [](float x) { return math::erf(x); }, [](double x) { return std::erf(x); }, 0.9);
  EXPECT_ULP(
      2, [](float x) { return math::sigmoid(x); }, sigmoid_reference, -1);
  EXPECT_ULP(
      2, [](float x) { return math::softplus(x); }, softplus_reference, -2);
  EXPECT_ULP(
      4, [](float x) { return math::silu(x); }, [](double x) { return x * sigmoid_reference(x); }, -100);
}

TEST(Math, RootsAndPowersAreWithin2Ulp) {
  EXPECT_ULP(
      2, [](float x) { return math::rsqrt(x); }, [](double x) { return 1 / std::sqrt(x); });
  EXPECT_ULP(
      1, [](float x) { return math::sqrt(x); }, [](double x) { return std::sqrt(x); });
  EXPECT_ULP(
      1, [](float x) { return math::pow(x, 0.3f); }, [](double x) { return std::pow(x, double{0.3f}); });
}

TEST(Math, GeluIsWithin4UlpDownToTheTail) {
  EXPECT_ULP(
      4, [](float x) { return math::gelu(x); }, gelu_reference, -14);
  EXPECT_ULP(
      4, [](float x) { return math::gelu_tanh(x); }, gelu_tanh_reference, -10);
}

TEST(Math, GeluSlopeIsWithin4UlpEvenNearItsZero) {
  EXPECT_ULP(
      4, [](float x) { return math::gelu_slope(x); }, gelu_slope_reference, -0.7517915);
  EXPECT_ULP(
      4, [](float x) { return math::gelu_slope(x); }, gelu_slope_reference, -14);
}

TEST(Math, GeluTanhSlopeIsTheDerivative) {
  for (double x = -6; x <= 6; x += 0.01) {
    const double step = 1e-3;
    const auto f = gelu_tanh_reference;
    const double numeric = (8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / (12 * step);
    EXPECT_TRUE(std::abs(math::gelu_tanh_slope(x) - numeric) <= 1e-9) << "at " << x;
    const double single = math::gelu_tanh_slope(static_cast<float>(x));
    EXPECT_TRUE(std::abs(single - math::gelu_tanh_slope(double{static_cast<float>(x)})) <= 1e-6) << "at " << x;
  }
}

TEST(Math, DoubleVersionsAgreeWithTheReferences) {
  for (double x = -30; x <= 30; x += 0.037) {
    EXPECT_TRUE(std::abs(math::gelu(x) - gelu_reference(x)) <= 1e-15 * std::max(1.0, std::abs(x))) << "at " << x;
    EXPECT_TRUE(std::abs(math::gelu_slope(x) - gelu_slope_reference(x)) <= 1e-15) << "at " << x;
    EXPECT_TRUE(std::abs(math::sigmoid(x) - sigmoid_reference(x)) <= 1e-15) << "at " << x;
    EXPECT_TRUE(std::abs(math::silu(x) - x * sigmoid_reference(x)) <= 1e-14) << "at " << x;
    EXPECT_TRUE(std::abs(math::softplus(x) - softplus_reference(x)) <= 1e-14) << "at " << x;
  }
}

TEST(Math, NaNGivesNaN) {
  for (float (*f)(float) :
       {+[](float x) { return math::exp(x); }, +[](float x) { return math::expm1(x); },
        +[](float x) { return math::log(x); }, +[](float x) { return math::log1p(x); },
        +[](float x) { return math::tanh(x); }, +[](float x) { return math::erf(x); },
        +[](float x) { return math::sigmoid(x); }, +[](float x) { return math::silu(x); },
        +[](float x) { return math::softplus(x); }, +[](float x) { return math::rsqrt(x); },
        +[](float x) { return math::gelu(x); }, +[](float x) { return math::gelu_slope(x); },
        +[](float x) { return math::gelu_tanh(x); }, +[](float x) { return math::gelu_tanh_slope(x); },
        +[](float x) { return math::clamp(x, -1.0f, 1.0f); }}) {
    EXPECT_TRUE(std::isnan(f(not_a_number)));
    EXPECT_TRUE(std::isnan(f(-not_a_number)));
  }
}

TEST(Math, InfinitiesAndEdgesHaveTheirLimits) {
  EXPECT_EQ(math::exp(infinity), infinity);
  EXPECT_EQ(math::exp(-infinity), 0.0f);
  EXPECT_EQ(math::exp(0.0f), 1.0f);
  EXPECT_EQ(math::expm1(infinity), infinity);
  EXPECT_EQ(math::expm1(-infinity), -1.0f);
  EXPECT_EQ(math::log(infinity), infinity);
  EXPECT_EQ(math::log(0.0f), -infinity);
  EXPECT_TRUE(std::isnan(math::log(-1.0f)));
  EXPECT_EQ(math::log1p(-1.0f), -infinity);
  EXPECT_EQ(math::log1p(infinity), infinity);
  EXPECT_TRUE(std::isnan(math::log1p(-1.5f)));
  for (const float sign : {-1.0f, 1.0f}) {
    EXPECT_EQ(math::tanh(sign * infinity), sign);
    EXPECT_EQ(math::erf(sign * infinity), sign);
    EXPECT_EQ(std::signbit(math::tanh(sign * 0.0f)), sign < 0);
  }
  EXPECT_EQ(math::sigmoid(infinity), 1.0f);
  EXPECT_EQ(math::sigmoid(-infinity), 0.0f);
  EXPECT_EQ(math::softplus(-infinity), 0.0f);
  EXPECT_EQ(math::softplus(infinity), infinity);
  for (float (*f)(float) : {+[](float x) { return math::gelu(x); }, +[](float x) { return math::gelu_tanh(x); },
                            +[](float x) { return math::silu(x); }}) {
    EXPECT_EQ(f(infinity), infinity);
    EXPECT_EQ(f(-infinity), 0.0f);
    EXPECT_EQ(f(0.0f), 0.0f);
  }
  for (float (*f)(float) :
       {+[](float x) { return math::gelu_slope(x); }, +[](float x) { return math::gelu_tanh_slope(x); }}) {
    EXPECT_EQ(f(infinity), 1.0f);
    EXPECT_EQ(f(-infinity), 0.0f);
    EXPECT_EQ(f(0.0f), 0.5f);
  }
}

#if defined(VT_HOST_CUDA)
// What a GPU computes where the result becomes bf16: for every bf16 number, well within its
// rounding (2^-9).
TEST(Math, GeluForBf16IsExactEnough) {
  for (std::uint32_t bits = 0; bits < (1u << 16); ++bits) {
    const float x = std::bit_cast<float>(bits << 16);
    if (!std::isfinite(x) || std::abs(x) > 13) continue;  // beyond, the tail is below the least normal float
    const double y = gelu_reference(x), slope = gelu_slope_reference(x);
    EXPECT_TRUE(std::abs(gelu_for_bf16(x) - y) <= 0x1p-16 * std::abs(y)) << x;
    EXPECT_TRUE(std::abs(gelu_slope_for_bf16(x) - slope) <= 0x1p-16 * std::abs(slope)) << x;
  }
}
#endif

}  // namespace
}  // namespace vitrine
