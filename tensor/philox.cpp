// Distributions on top of Philox, for host code.
#include "tensor/philox.h"

#include <cmath>
#include <numbers>

#include "tensor/error.h"

namespace vitrine {

std::int64_t RandomSequence::integer(std::int64_t count) {
  VT_CHECK(count >= 1 && count <= (std::int64_t{1} << 32), "random integer: count is {}, expected 1 to 2^32", count);
  // Lemire's multiplication method: reject the few words that would make some results more likely.
  const auto range = static_cast<std::uint64_t>(count);
  const std::uint64_t threshold = (std::uint64_t{1} << 32) % range;
  while (true) {
    const std::uint64_t product = bits() * range;
    if ((product & 0xFFFFFFFFu) >= threshold) return static_cast<std::int64_t>(product >> 32);
  }
}

double RandomSequence::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));  // 1 - u is in (0, 1]
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

double RandomSequence::gamma(double shape) {
  VT_CHECK(shape > 0, "gamma: shape is {}, expected a positive number", shape);
  if (shape < 1) {  // boost: gamma(a) = gamma(a + 1) u^(1/a)
    const double boosted = gamma(shape + 1);
    return boosted * std::pow(1 - uniform(), 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = normal();
    const double v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    if (std::log(1 - uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

double RandomSequence::beta(double a, double b) {
  const double x = gamma(a), y = gamma(b);
  if (x + y == 0) return chance(a / (a + b)) ? 1 : 0;  // both too small for a double: the result is all but 0 or 1
  return x / (x + y);
}

}  // namespace vitrine
