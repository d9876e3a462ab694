// Row of conv2d.
#include "op_table/moves.h"

namespace vitrine {
namespace {

struct Settings {
  std::int64_t stride = 1, padding = 0, groups = 1;
};

/// The sum of the definition, output by output. in: x, weight and perhaps bias.
Tensor conv2d_naively(const Tensors& in, Settings s) {
  const Tensor &x = in[0], &weight = in[1];
  const std::int64_t H = x.size(2), W = x.size(3), depth = weight.size(1), kh = weight.size(2), kw = weight.size(3);
  const auto size = [&](std::int64_t length, std::int64_t kernel) {
    return (length + 2 * s.padding - kernel) / s.stride + 1;
  };
  return from_elements({x.size(0), weight.size(0), size(H, kh), size(W, kw)}, [&](const Dims& at) {
    const std::int64_t first_channel = at[1] / (weight.size(0) / s.groups) * depth;
    double total = in.size() > 2 ? value_at(in[2], {at[1]}) : 0;
    for (std::int64_t c = 0; c < depth; ++c) {
      for (std::int64_t i = 0; i < kh; ++i) {
        for (std::int64_t j = 0; j < kw; ++j) {
          const std::int64_t row = at[2] * s.stride + i - s.padding, column = at[3] * s.stride + j - s.padding;
          if (row < 0 || row >= H || column < 0 || column >= W) continue;
          total += value_at(weight, {at[1], c, i, j}) * value_at(x, {at[0], first_channel + c, row, column});
        }
      }
    }
    return total;
  });
}

OpCase convolved(const std::string& name, const Shape& x, const Shape& weight, Settings s, bool with_bias = false) {
  OpCase result{name,
                {test_values(x, 1), test_values(weight, 2, -1, 1)},
                [s](const Tensors& in) {
                  const OptionalTensor bias = in.size() > 2 ? OptionalTensor(in[2]) : std::nullopt;
                  return conv2d(in[0], in[1], bias, s.stride, s.padding, s.groups);
                },
                [s](const Tensors& in) { return conv2d_naively(in, s); }};
  if (with_bias) result.inputs.push_back(test_values({weight[0]}, 3));
  return result;
}

OpBenchmark benchmark() {
  const auto values = [](const Shape& shape, std::uint64_t stream) {
    return cast_data(test_values(shape, stream), DType::f32);
  };
  return {"(8, 64, 56, 56), 3 x 3",
          {values({8, 64, 56, 56}, 1), values({64, 64, 3, 3}, 2)},
          [](const Tensors& in) { return conv2d(in[0], in[1], std::nullopt, 1, 1); },
          2.0 * 8 * 56 * 56 * 64 * 64 * 9,
          0};
}

}  // namespace

std::vector<OpRow> conv_rows() {
  const auto f = [](const Shape& x, const Shape& weight, Settings s) {
    conv2d(zeros(x), zeros(weight), std::nullopt, s.stride, s.padding, s.groups);
  };
  return {{.op = "conv2d",
           .cases = []() -> std::vector<OpCase> {
             return {convolved("3 x 3, padded", {2, 2, 3, 4}, {2, 2, 3, 3}, {.padding = 1}),
                     convolved("bias, stride 2", {1, 2, 5, 4}, {2, 2, 3, 3}, {.stride = 2, .padding = 1}, true),
                     convolved("kernel 2 x 3, pixels left over", {1, 2, 5, 4}, {2, 2, 2, 3}, {.stride = 2}),
                     convolved("groups", {2, 4, 2, 3}, {6, 2, 2, 2}, {.groups = 2}, true),
                     convolved("depthwise", {1, 3, 4, 4}, {3, 1, 3, 3}, {.padding = 1, .groups = 3}),
                     convolved("pointwise", {2, 3, 2, 3}, {4, 3, 1, 1}, {}, true),
                     convolved("pointwise in groups", {2, 4, 2, 2}, {2, 2, 1, 1}, {.groups = 2}, true),
                     convolved("pointwise, stride 2", {2, 2, 3, 4}, {2, 2, 1, 1}, {.stride = 2}),
                     convolved("stride beyond the kernel", {1, 1, 5, 6}, {1, 1, 2, 2}, {.stride = 3}),
                     convolved("padding beyond the kernel", {1, 1, 2, 3}, {1, 1, 2, 2}, {.padding = 3}),
                     convolved("one output pixel", {2, 1, 3, 2}, {2, 1, 3, 2}, {}),
                     convolved("no images", {0, 2, 3, 3}, {2, 2, 2, 2}, {}, true)};
           },
           // A sum of up to 27 terms, each of magnitude up to 2.
           .f32_tolerance = 4e-6,
           .errors =
               {{[=] {
                   f({3, 8, 8}, {4, 3, 3, 3}, {});
                 },
                 "conv2d: x has shape (3, 8, 8) and weight (4, 3, 3, 3), expected (B, C, H, W) and (O, C / groups, kh"},
                {[=] {
                   f({1, 3, 0, 8}, {4, 3, 3, 3}, {});
                 },
                 "with sizes above 0"},
                {[=] {
                   f({1, 3, 8, 8}, {4, 2, 3, 3}, {});
                 },
                 "conv2d: weight has shape (4, 2, 3, 3), expected (O, 3, kh, kw) for x (1, 3, 8, 8) in 1 groups"},
                {[=] {
                   f({1, 4, 8, 8}, {4, 2, 3, 3}, {.groups = 3});
                 },
                 "conv2d: groups is 3, expected a divisor of the 4 channels of x and of the 4 filters of weight"},
                {[=] {
                   f({1, 3, 8, 8}, {4, 3, 3, 3}, {.stride = 0});
                 },
                 "conv2d: stride is 0 and padding 0, expected at least 1 and 0"},
                {[=] {
                   f({1, 3, 2, 8}, {4, 3, 5, 3}, {.padding = 1});
                 },
                 "conv2d: x (1, 3, 2, 8) with padding 1 is smaller than the kernel (5, 3)"},
                {[] {
                   conv2d(zeros({1, 2, 3, 3}), zeros({4, 2, 3, 3}), zeros({3}));
                 },
                 "conv2d: bias has shape (3), expected (4) = first dimension of weight (4, 2, 3, 3)"},
                {[] {
                   conv2d(zeros({1, 2, 3, 3}), zeros({4, 2, 3, 3}, DType::f64));
                 },
                 "dtypes f32 and f64"}},
           .benchmark = benchmark}};
}

}  // namespace vitrine
