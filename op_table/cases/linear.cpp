// The row of linear.
#include "op_table/op_table.h"

namespace vitrine {
namespace {

/// in = {x (..., in), weight (out, in), bias (out) if there is one}
Tensor linear_naively(const Tensors& in) {
  const Tensor &x = in[0], &weight = in[1];
  Shape shape = x.shape();
  shape[x.dim() - 1] = weight.size(0);
  Tensor y = empty(shape, DType::f64);
  for_each_index(shape, [&](const Dims& index, std::int64_t position) {
    const std::int64_t column = index.back();
    double total = in.size() > 2 ? value_at(in[2], {column}) : 0;
    Dims source = index;
    for (std::int64_t k = 0; k < x.size(-1); ++k) {
      source[x.dim() - 1] = k;
      total += value_at(x, source) * value_at(weight, {column, k});
    }
    y.data<double>()[position] = total;
  });
  return y;
}

Tensor call_linear(const Tensors& in) {
  return linear(in[0], in[1], in.size() > 2 ? OptionalTensor(in[2]) : std::nullopt);
}

OpCase layer(const std::string& name, const Shape& x, const Shape& weight, bool with_bias) {
  Tensors inputs{test_values(x, 1), test_values(weight, 2)};
  if (with_bias) inputs.push_back(test_values({weight[0]}, 3));
  return {name, inputs, call_linear, linear_naively};
}

}  // namespace

std::vector<OpRow> linear_rows() {
  return {{.op = "linear",
           .cases =
               [] {
                 return std::vector<OpCase>{
                     layer("with bias", {3, 4}, {5, 4}, true), layer("without bias", {3, 4}, {2, 4}, false),
                     layer("one row", {1, 3}, {4, 3}, true),   layer("one dim", {4}, {3, 4}, true),
                     layer("tokens", {2, 3, 4}, {3, 4}, true), layer("one output", {5, 2}, {1, 2}, true),
                     layer("no rows", {0, 3}, {2, 3}, true),   layer("no inputs", {2, 0}, {3, 0}, true)};
               },
           .f32_tolerance = 4e-6,
           .errors = {{[] {
                         linear(zeros({2, 3}), zeros({4, 5}));
                       },
                       "linear: x is (2, 3) and weight is (4, 5), expected x (..., in) and weight (out, in)"},
                      {[] {
                         linear(zeros({2, 3}), zeros({4, 3}), zeros({3}));
                       },
                       "linear: bias has shape (3), expected (4) = first dimension of weight (4, 3)"},
                      {[] {
                         linear(zeros({2, 3}), zeros({4, 3}, DType::f64));
                       },
                       "linear: x is f32, weight f64 and bias absent"}},
           .benchmark =
               [] {
                 return OpBenchmark{
                     "(128, 65, 192) (576, 192)",
                     {cast_data(test_values({128, 65, 192}, 1), DType::f32),
                      cast_data(test_values({576, 192}, 2), DType::f32), cast_data(test_values({576}, 3), DType::f32)},
                     call_linear,
                     2.0 * 8320 * 192 * 576,
                     4.0 * (8320 * 192 + 192 * 576 + 8320 * 576)};
               }}};
}

}  // namespace vitrine
