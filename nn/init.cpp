// Random initial values: each element is computed from its own block of random bits, in parallel.
#include "nn/init.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "tensor/dtype.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

constexpr std::int64_t elements_per_chunk = 1 << 14;

/// x[i] = value(i) for a row-major CPU tensor of f32 or f64.
template <class Value>
void fill_each(Tensor& x, const char* op, Value&& value) {
  VT_CHECK(x.device().is_cpu() && x.is_contiguous(), "{}: the tensor must be row-major on the cpu", op);
  VT_CHECK(x.dtype() == DType::f32 || x.dtype() == DType::f64, "{}: dtype is {}, expected f32 or f64", op,
           name_of(x.dtype()));
  x.storage()->bump_version();
  const auto run = [&](auto* data) {
    using T = std::remove_pointer_t<decltype(data)>;
    parallel_for(x.numel(), elements_per_chunk, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) data[i] = static_cast<T>(value(static_cast<std::uint64_t>(i)));
    });
  };
  if (x.dtype() == DType::f32)
    run(x.data<float>());
  else
    run(x.data<double>());
}

/// Two independent standard normal numbers from one block: Box and Muller 1958.
std::pair<double, double> normal_pair(const Random& random, std::uint64_t block) {
  const PhiloxBlock bits = random.block(block);
  const double radius = std::sqrt(-2 * std::log((bits.word[0] + 0.5) * 0x1p-32));  // the argument is in (0, 1)
  const double angle = 2 * std::numbers::pi * (bits.word[1] * 0x1p-32);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace

void fill_uniform(Tensor& x, double low, double high, Random random) {
  fill_each(x, "fill_uniform", [=](std::uint64_t i) { return low + (high - low) * (random.bits(i) * 0x1p-32); });
}

void fill_normal(Tensor& x, double mean, double deviation, Random random) {
  fill_each(x, "fill_normal", [=](std::uint64_t i) { return mean + deviation * normal_pair(random, i).first; });
}

void fill_truncated_normal(Tensor& x, double deviation, Random random, double low, double high) {
  VT_CHECK(deviation > 0 && low < 0 && high > 0,
           "fill_truncated_normal: deviation {} in [{}, {}], expected deviation > 0 and bounds around 0", deviation,
           low, high);
  const auto count = static_cast<std::uint64_t>(x.numel());
  fill_each(x, "fill_truncated_normal", [=](std::uint64_t i) {
    for (std::uint64_t block = i;; block += count) {  // a value outside [low, high] is drawn again
      const auto [first, second] = normal_pair(random, block);
      for (const double value : {deviation * first, deviation * second}) {
        if (value >= low && value <= high) return value;
      }
    }
  });
}

Initializer Initializer::shapes_only() {
  Initializer init(0);
  init.shapes_only_ = true;
  return init;
}

template <class Fill>
Parameter Initializer::make(const Shape& shape, Fill&& fill_values) {
  if (shapes_only_) return Parameter(zeros({1}, dtype_).view_as(shape, Strides::filled(shape.size(), 0), 0));
  Tensor values = empty(shape, dtype_ == DType::f64 ? DType::f64 : DType::f32);
  fill_values(values);
  return Parameter(cast_data(values, dtype_));
}

Parameter Initializer::constant(const Shape& shape, double value) {
  return make(shape, [&](Tensor& x) { fill(x, value); });
}

Parameter Initializer::uniform(const Shape& shape, double bound) {
  const Random random = generator_.next(Purpose::initialization);
  return make(shape, [&](Tensor& x) { fill_uniform(x, -bound, bound, random); });
}

Parameter Initializer::normal(const Shape& shape, double deviation) {
  const Random random = generator_.next(Purpose::initialization);
  return make(shape, [&](Tensor& x) { fill_normal(x, 0, deviation, random); });
}

Parameter Initializer::truncated_normal(const Shape& shape, double deviation) {
  const Random random = generator_.next(Purpose::initialization);
  return make(shape, [&](Tensor& x) { fill_truncated_normal(x, deviation, random); });
}

Parameter Initializer::lecun_normal(const Shape& shape, std::int64_t fan_in) {
  const Random random = generator_.next(Purpose::initialization);
  constexpr double deviation_of_cut_normal = 0.87962566103423978;  // of a standard normal between -2 and 2
  const double deviation = 1 / std::sqrt(static_cast<double>(fan_in)) / deviation_of_cut_normal;
  return make(shape, [&](Tensor& x) { fill_truncated_normal(x, deviation, random, -2 * deviation, 2 * deviation); });
}

Parameter Initializer::linear_weight(std::int64_t out, std::int64_t in) {
  const auto fan_in = static_cast<double>(in), fan_out = static_cast<double>(out);
  switch (linear_scheme) {
    case LinearScheme::kaiming_uniform:
      return uniform({out, in}, 1 / std::sqrt(fan_in));
    case LinearScheme::truncated_normal:
      return truncated_normal({out, in}, 0.02);
    default:
      return uniform({out, in}, std::sqrt(6 / (fan_in + fan_out)));
  }
}

Parameter Initializer::linear_bias(std::int64_t out, std::int64_t in) {
  if (linear_scheme == LinearScheme::kaiming_uniform) return uniform({out}, 1 / std::sqrt(static_cast<double>(in)));
  return constant({out}, 0);
}

}  // namespace vitrine
