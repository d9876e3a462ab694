// Row of layer_norm.
#include <cmath>

#include "tests/op_table.h"

namespace vitrine {
namespace {

/// Mean, variance and the formula, one row of x (..., D) after the other.
Tensor layer_norm_naively(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  Tensor y = empty(x.shape(), DType::f64);
  const std::int64_t D = x.size(-1);
  const auto values = x.to_vector<double>();
  for (std::int64_t start = 0; start < x.numel(); start += D) {
    const double* row = values.data() + start;
    double mean = 0, variance = 0;
    for (std::int64_t i = 0; i < D; ++i) mean += row[i] / static_cast<double>(D);
    for (std::int64_t i = 0; i < D; ++i) variance += (row[i] - mean) * (row[i] - mean) / static_cast<double>(D);
    for (std::int64_t i = 0; i < D; ++i) {
      const double n = (row[i] - mean) / std::sqrt(variance + epsilon);
      y.data<double>()[start + i] = n * value_at(weight, {i}) + value_at(bias, {i});
    }
  }
  return y;
}

OpCase normalize(const std::string& name, const Shape& shape, double epsilon = 1e-5, double center = 0) {
  const Shape D = {shape.back()};
  return {name,
          {test_values(shape, 1, center - 2, center + 2), test_values(D, 2), test_values(D, 3)},
          [=](const Tensors& in) { return layer_norm(in[0], in[1], in[2], epsilon); },
          [=](const Tensors& in) { return layer_norm_naively(in[0], in[1], in[2], epsilon); }};
}

OpBenchmark benchmark() {
  const auto values = [](const Shape& shape, std::uint64_t stream) {
    return cast_data(test_values(shape, stream), DType::f32);
  };
  return {"(128, 65, 192)",
          {values({128, 65, 192}, 1), values({192}, 2), values({192}, 3)},
          [](const Tensors& in) { return layer_norm(in[0], in[1], in[2]); },
          0,
          2 * 4.0 * 128 * 65 * 192};
}

}  // namespace

std::vector<OpRow> layer_norm_rows() {
  const auto f = [](const Shape& x, const Shape& weight, const Shape& bias) {
    layer_norm(zeros(x), zeros(weight), zeros(bias));
  };
  return {{.op = "layer_norm",
           .cases = []() -> std::vector<OpCase> {
             return {normalize("three dims", {2, 3, 6}),
                     normalize("one row", {5}),
                     normalize("longer than the lanes", {2, 41}),
                     normalize("another epsilon", {3, 4}, 0.1),
                     normalize("D = 1", {3, 1}),
                     normalize("far from zero", {3, 8}, 1e-5, 100),
                     normalize("no rows", {0, 4})};
           },
           // The denominator magnifies: |y| reaches 4 here, and dx / dvar is steep.
           .f32_tolerance = 2e-6,
           .errors = {{[=] {
                         f({8, 65, 192}, {191}, {192});
                       },
                       "layer_norm: weight has shape (191), expected (192) = last dimension of x (8, 65, 192)"},
                      {[=] {
                         f({2, 4}, {4}, {1, 4});
                       },
                       "layer_norm: bias has shape (1, 4), expected (4) = last dimension of x (2, 4)"},
                      {[=] { f({}, {1}, {1}); }, "layer_norm: x has shape (), expected a last dimension of at least 1"},
                      {[] {
                         layer_norm(zeros({2, 4}), zeros({4}, DType::f64), zeros({4}));
                       },
                       "dtypes f32 and f64"},
                      {[] {
                         layer_norm(zeros({2, 4}), zeros({4}), zeros({4}), -1);
                       },
                       "layer_norm: epsilon is -1, expected at least 0"}},
           .benchmark = benchmark}};
}

}  // namespace vitrine
