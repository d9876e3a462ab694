// Row of interpolate.
#include <cmath>

#include "op_table/moves.h"

namespace vitrine {
namespace {

/// Keys 1981, equation 15.
double cubic_naively(double x, double a) {
  x = std::abs(x);
  if (x <= 1) return (a + 2) * std::pow(x, 3) - (a + 3) * std::pow(x, 2) + 1;
  if (x < 2) return a * std::pow(x, 3) - 5 * a * std::pow(x, 2) + 8 * a * x - 4 * a;
  return 0;
}

/// Weight of input pixel i in output pixel o: every pixel of the line, extended far beyond its
/// edges, has its say.
double weight_naively(std::int64_t i, std::int64_t o, std::int64_t from, std::int64_t to, InterpolationMode mode,
                      bool antialias) {
  const double step = static_cast<double>(from) / static_cast<double>(to);
  const double center = (static_cast<double>(o) + 0.5) * step - 0.5, stretch = antialias && step > 1 ? step : 1;
  double mine = 0, all = 0;
  for (std::int64_t j = -20; j < from + 20; ++j) {
    const bool inside = j >= 0 && j < from;
    if (antialias && !inside) continue;
    const double x = (static_cast<double>(j) - center) / stretch;
    const double weight = mode == InterpolationMode::bicubic ? cubic_naively(x, antialias ? -0.5 : -0.75)
                                                             : std::max(0.0, 1 - std::abs(x));
    const std::int64_t taken = std::min(std::max<std::int64_t>(j, 0), from - 1);
    all += weight;
    if (taken == i) mine += weight;
  }
  return mine / all;
}

Tensor interpolate_naively(const Tensor& x, std::int64_t height, std::int64_t width, InterpolationMode mode,
                           bool antialias) {
  const std::int64_t H = x.size(2), W = x.size(3);
  return from_elements({x.size(0), x.size(1), height, width}, [&](const Dims& at) {
    double sum = 0;
    for (std::int64_t i = 0; i < H; ++i) {
      for (std::int64_t j = 0; j < W; ++j) {
        sum += weight_naively(i, at[2], H, height, mode, antialias) *
               weight_naively(j, at[3], W, width, mode, antialias) * value_at(x, {at[0], at[1], i, j});
      }
    }
    return sum;
  });
}

OpCase resized(const char* name, const Shape& shape, std::int64_t height, std::int64_t width, InterpolationMode mode,
               bool antialias) {
  return {name,
          {test_values(shape, 1)},
          [=](const Tensors& x) { return interpolate(x[0], height, width, mode, antialias); },
          [=](const Tensors& x) { return interpolate_naively(x[0], height, width, mode, antialias); }};
}

OpBenchmark benchmark() {
  const Tensor x = cast(test_values({16, 64, 56, 56}, 3), DType::f32);
  return {"(16, 64, 56, 56) to 28 x 28, bicubic, antialias",
          {x},
          [](const Tensors& in) { return interpolate(in[0], 28, 28, InterpolationMode::bicubic, true); },
          0,
          4.0 * 1.25 * static_cast<double>(x.numel())};
}

}  // namespace

// clang-format off
std::vector<OpRow> interpolate_rows() {
  const auto f = [](const Shape& shape, std::int64_t height, std::int64_t width, DType dtype = DType::f32) {
    return [=] { interpolate(zeros(shape, dtype), height, width, InterpolationMode::bilinear); };
  };
  return {{.op = "interpolate",
           .cases = []() -> std::vector<OpCase> {
             constexpr auto bilinear = InterpolationMode::bilinear, bicubic = InterpolationMode::bicubic;
             return {resized("bilinear, larger", {2, 1, 3, 2}, 5, 4, bilinear, false),
                     resized("bilinear, smaller", {1, 2, 5, 6}, 3, 2, bilinear, false),
                     resized("bicubic, larger", {1, 2, 3, 4}, 4, 7, bicubic, false),
                     resized("bicubic, smaller", {2, 1, 7, 5}, 3, 2, bicubic, false),
                     resized("bilinear, antialias, smaller", {1, 2, 7, 5}, 3, 2, bilinear, true),
                     resized("bicubic, antialias, smaller", {1, 2, 8, 7}, 3, 4, bicubic, true),
                     resized("bicubic, antialias, larger", {2, 1, 3, 4}, 5, 6, bicubic, true),
                     resized("the same size", {1, 1, 3, 4}, 3, 4, bicubic, false),
                     resized("one pixel", {2, 1, 1, 1}, 3, 2, bicubic, true),
                     resized("no images", {0, 2, 3, 3}, 2, 2, bilinear, false)};
           },
           .f32_tolerance = 4e-6,
           .errors = {{f({3, 4, 4}, 2, 2), "interpolate: x has shape (3, 4, 4) and dtype f32, expected (B, C, H, W)"},
                      {f({1, 3, 0, 4}, 2, 2), "interpolate: x has shape (1, 3, 0, 4)"},
                      {f({1, 3, 4, 4}, 0, 2), "interpolate: height is 0 and width 2, expected sizes above 0"},
                      {f({1, 3, 4, 4}, 2, 2, DType::u8), "dtype u8"}},
           .benchmark = benchmark}};
}
// clang-format on

}  // namespace vitrine
