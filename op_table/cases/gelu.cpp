// The rows of GELU, in both forms, and of GELU after a bias.
#include <cmath>

#include "op_table/pointwise.h"
#include "ops/composed.h"

namespace vitrine {
namespace {

double erf_form(const std::vector<double>& v) { return 0.5 * v[0] * std::erfc(-v[0] / std::sqrt(2.0)); }

double tanh_form(const std::vector<double>& v) {
  const double x = v[0], inner = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
}

/// x of `shape`, and as many biases as its last dim has elements.
OpCase with_bias(const std::string& name, const Shape& shape, double reach = 3) {
  return {name,
          {test_values(shape, 7, -reach, reach), test_values({shape.back()}, 8, -reach, reach)},
          [](const Tensors& in) { return bias_gelu(in[0], in[1]); },
          [](const Tensors& in) {
            Tensor y = empty(in[0].shape(), DType::f64);
            for_each_index(y.shape(), [&](const Dims& index, std::int64_t position) {
              y.data<double>()[position] = erf_form({value_at(in[0], index) + value_at(in[1], {index.back()})});
            });
            return y;
          }};
}

OpRow bias_gelu_row() {
  OpRow row;
  row.op = "bias_gelu";
  row.cases = [] {
    // Packs of 16 bytes have 2, 4 or 8 elements. Longer rows: tests/ops/test_rows_cuda.cpp.
    return std::vector<OpCase>{with_bias("odd sizes", {3, 5, 7}), with_bias("one row", {6}),
                               with_bias("whole packs", {5, 16}), with_bias("tail", {2, 3, 8}, 15),
                               with_bias("no rows", {0, 4})};
  };
  row.errors = {{[] {
                   bias_gelu(zeros({2, 3}), zeros({2}));
                 },
                 "bias_gelu: bias has shape (2) and x (2, 3), expected the last dimension of x"},
                {[] { bias_gelu(zeros({}), zeros({1})); }, "bias_gelu: bias has shape (1) and x ()"},
                {[] {
                   bias_gelu(zeros({2, 3}), zeros({3}, DType::f64));
                 },
                 "dtypes f32 and f64"}};
  row.benchmark = [] {
    const auto values = [](const Shape& shape, std::uint64_t stream) {
      return cast_data(test_values(shape, stream), DType::f32);
    };
    return OpBenchmark{"(128, 65, 768)",
                       {values({128, 65, 768}, 1), values({768}, 2)},
                       [](const Tensors& in) { return bias_gelu(in[0], in[1]); },
                       0,
                       2 * 4.0 * 128 * 65 * 768};
  };
  row.composition = [] {
    return OpComposition{{test_values({6, 45}, 1), test_values({45}, 2)},
                         [](const Tensors& in) { return bias_gelu(in[0], in[1]); },
                         [](const Tensors& in) { return bias_gelu_composed(in[0], in[1]); }};
  };
  return row;
}

}  // namespace

std::vector<OpRow> gelu_rows() {
  const Call erf_call = [](const Tensors& x) { return gelu(x[0]); };
  const Call tanh_call = [](const Tensors& x) { return gelu(x[0], GeluForm::tanh); };
  OpRow row;
  row.op = "gelu";
  row.cases = [=] {
    return std::vector<OpCase>{pointwise("erf form", {test_values({3, 7}, 1, -4, 4)}, erf_call, erf_form),
                               pointwise("tanh form", {test_values({3, 7}, 2, -4, 4)}, tanh_call, tanh_form),
                               pointwise("tail", {test_values({2, 2, 3}, 3, -30, 30)}, erf_call, erf_form),
                               pointwise("tail, tanh form", {test_values({5}, 4, -30, 30)}, tanh_call, tanh_form),
                               pointwise("0-d", {test_values({}, 5)}, erf_call, erf_form),
                               pointwise("empty", {test_values({0, 3}, 6)}, erf_call, erf_form)};
  };
  row.errors = {{[] { gelu(zeros({2}, DType::i64)); }, "gelu: dtype is i64, expected f32, f64 or bf16"},
                {[] { gelu(Tensor()); }, "gelu: an operand is an undefined tensor"}};
  row.benchmark = pointwise_benchmark({128, 65, 768}, 1, erf_call);
  row.composition = [=] {  // both forms beside each other
    return OpComposition{{test_values({6, 45}, 1, -4, 4)},
                         [=](const Tensors& in) {
                           return concat({erf_call(in), tanh_call(in)}, 0);
                         },
                         [](const Tensors& in) {
                           return concat({gelu_composed(in[0]), gelu_composed(in[0], GeluForm::tanh)}, 0);
                         }};
  };
  return {row, bias_gelu_row()};
}

}  // namespace vitrine
