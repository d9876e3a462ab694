// Rows of max_pool2d and avg_pool2d.
#include <cmath>

#include "op_table/moves.h"

namespace vitrine {
namespace {

struct Window {
  std::int64_t kernel, stride, padding = 0;
};

using Pool = Tensor (*)(const Tensor&, std::int64_t, std::int64_t, std::int64_t);

/// finish(largest number, sum) of the pixels inside each window.
Tensor pool_naively(const Tensor& x, Window w, double (*finish)(double largest, double sum, double kernel)) {
  const auto size = [&](std::int64_t length) { return (length + 2 * w.padding - w.kernel) / w.stride + 1; };
  return from_elements({x.size(0), x.size(1), size(x.size(2)), size(x.size(3))}, [&](const Dims& at) {
    double largest = -INFINITY, sum = 0;
    for (std::int64_t i = 0; i < w.kernel; ++i) {
      for (std::int64_t j = 0; j < w.kernel; ++j) {
        const std::int64_t row = at[2] * w.stride + i - w.padding, column = at[3] * w.stride + j - w.padding;
        if (row < 0 || row >= x.size(2) || column < 0 || column >= x.size(3)) continue;
        const double value = value_at(x, {at[0], at[1], row, column});
        largest = std::max(largest, value);
        sum += value;
      }
    }
    return finish(largest, sum, static_cast<double>(w.kernel));
  });
}

OpRow pool_row(const char* op, Pool pool, double (*finish)(double largest, double sum, double kernel)) {
  const auto pooled = [=](const char* name, const Shape& shape, Window w) -> OpCase {
    return {name,
            {test_values(shape, 1)},
            [=](const Tensors& x) { return pool(x[0], w.kernel, w.stride, w.padding); },
            [=](const Tensors& x) { return pool_naively(x[0], w, finish); }};
  };
  const auto f = [pool](const Shape& shape, Window w) {
    return [=] { pool(zeros(shape), w.kernel, w.stride, w.padding); };
  };
  const std::string name = op;
  OpRow result;
  result.op = name;
  result.cases = [=]() -> std::vector<OpCase> {
    return {pooled("ResNet's 3 x 3, stride 2", {2, 2, 5, 6}, {3, 2, 1}),
            pooled("side by side", {1, 3, 4, 6}, {2, 2}),
            pooled("overlapping", {2, 1, 4, 3}, {2, 1}),
            pooled("gaps, pixels left over", {1, 2, 8, 7}, {2, 3}),
            pooled("one pixel", {2, 2, 2, 3}, {1, 1}),
            pooled("whole image", {2, 2, 3, 3}, {3, 1}),
            pooled("no images", {0, 2, 4, 4}, {2, 2})};
  };
  result.errors = {
      {f({2, 4, 4}, {2, 2}), name + ": x has shape (2, 4, 4) and dtype f32, expected (B, C, H, W)"},
      {f({1, 2, 0, 4}, {2, 2}), name + ": x has shape (1, 2, 0, 4)"},
      {f({1, 2, 4, 4}, {2, 0}), name + ": kernel is 2, stride 0 and padding 0, expected at least 1, 1 and 0"},
      {f({1, 2, 4, 4}, {2, 1, 2}), "padding 2, expected at least 1, 1 and 0, and padding at most kernel / 2"},
      {f({1, 2, 4, 2}, {3, 1}), name + ": x (1, 2, 4, 2) with padding 0 is smaller than the kernel 3"}};
  result.benchmark = [=] {
    const Tensor x = cast(test_values({16, 64, 112, 112}, 3), DType::f32);
    return OpBenchmark{"(16, 64, 112, 112), 3 x 3, stride 2",
                       {x},
                       [=](const Tensors& in) { return pool(in[0], 3, 2, 1); },
                       0,
                       4.0 * 1.25 * static_cast<double>(x.numel())};
  };
  return result;
}

}  // namespace

std::vector<OpRow> pool_rows() {
  return {
      pool_row("max_pool2d", max_pool2d, [](double largest, double, double) { return largest; }),
      pool_row("avg_pool2d", avg_pool2d, [](double, double sum, double kernel) { return sum / (kernel * kernel); })};
}

}  // namespace vitrine
