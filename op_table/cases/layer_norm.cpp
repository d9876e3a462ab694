// Rows of layer_norm and add_layer_norm.
#include <algorithm>

#include "op_table/op_table.h"
#include "ops/composed.h"
#include "ops/norm/reference.h"

namespace vitrine {
namespace {

Tensor layer_norm_naively(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  Tensor y = empty(x.shape(), DType::f64);
  std::ranges::copy(layer_norm_reference::forward(x.to_vector<double>(), weight.to_vector<double>(),
                                                  bias.to_vector<double>(), epsilon),
                    y.data<double>());
  return y;
}

OpCase normalize(const std::string& name, const Shape& shape, double epsilon = 1e-5, double center = 0) {
  const Shape D = {shape.back()};
  return {name,
          {test_values(shape, 1, center - 2, center + 2), test_values(D, 2), test_values(D, 3)},
          [=](const Tensors& in) { return layer_norm(in[0], in[1], in[2], epsilon); },
          [=](const Tensors& in) { return layer_norm_naively(in[0], in[1], in[2], epsilon); }};
}

/// Both results side by side, (..., 2 D), of two inputs of one shape. In bf16 backward reads the
/// rounded sum, so epsilon must keep 1 / sqrt(var + epsilon) small in rows that are all equal.
OpCase normalize_sum(const std::string& name, const Shape& shape, double epsilon = 0.5) {
  const Shape D = {shape.back()};
  return {name,
          {test_values(shape, 4), test_values(shape, 5), test_values(D, 6), test_values(D, 7)},
          [=](const Tensors& in) {
            const SumAndNorm result = add_layer_norm(in[0], in[1], in[2], in[3], epsilon);
            return concat({result.sum, result.norm}, -1);
          },
          [=](const Tensors& in) {
            Shape both = shape;
            both[both.size() - 1] *= 2;
            Tensor added = empty(shape, DType::f64), y = empty(both, DType::f64);
            for_each_index(shape, [&](const Dims& index, std::int64_t position) {
              added.data<double>()[position] = value_at(in[0], index) + value_at(in[1], index);
            });
            const Tensor norm = layer_norm_naively(added, in[2], in[3], epsilon);
            for (std::int64_t i = 0; i < added.numel(); ++i) {
              const std::int64_t position = i / D[0] * 2 * D[0] + i % D[0];
              y.data<double>()[position] = added.data<double>()[i];
              y.data<double>()[position + D[0]] = norm.data<double>()[i];
            }
            return y;
          }};
}

OpRow add_layer_norm_row() {
  return {.op = "add_layer_norm",
          .cases = []() -> std::vector<OpCase> {
            return {normalize_sum("three dims", {2, 3, 6}),          normalize_sum("one row", {5}),
                    normalize_sum("longer than the lanes", {2, 41}), normalize_sum("whole packs", {3, 16}),
                    normalize_sum("another epsilon", {3, 4}, 0.1),   normalize_sum("no rows", {0, 4})};
          },
          .f32_tolerance = 2e-6,
          .errors = {{[] {
                        add_layer_norm(zeros({2, 4}), zeros({4}), zeros({4}), zeros({4}));
                      },
                      "add_layer_norm: x has shape (2, 4) and residual (4), expected one shape"},
                     {[] {
                        add_layer_norm(zeros({2, 4}), zeros({2, 4}), zeros({5}), zeros({4}));
                      },
                      "layer_norm: weight has shape (5), expected (4) = last dimension of x (2, 4)"}},
          .benchmark =
              [] {
                const auto values = [](const Shape& shape, std::uint64_t stream) {
                  return cast_data(test_values(shape, stream), DType::f32);
                };
                return OpBenchmark{
                    "(128, 65, 192)",
                    {values({128, 65, 192}, 1), values({128, 65, 192}, 2), values({192}, 3), values({192}, 4)},
                    [](const Tensors& in) { return add_layer_norm(in[0], in[1], in[2], in[3]).norm; },
                    0,
                    4 * 4.0 * 128 * 65 * 192};
              }};
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
                     normalize("whole packs", {5, 16}),
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
           .benchmark = benchmark,
           .composition =
               [] {
                 return OpComposition{{test_values({6, 45}, 1), test_values({45}, 2), test_values({45}, 3)},
                                      [](const Tensors& in) { return layer_norm(in[0], in[1], in[2]); },
                                      [](const Tensors& in) { return layer_norm_composed(in[0], in[1], in[2]); }};
               }},
          add_layer_norm_row()};
}

}  // namespace vitrine
