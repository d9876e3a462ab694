// The row of GELU, in both forms.
#include <cmath>

#include "tests/pointwise.h"

namespace vitrine {
namespace {

double erf_form(const std::vector<double>& v) { return 0.5 * v[0] * std::erfc(-v[0] / std::sqrt(2.0)); }

double tanh_form(const std::vector<double>& v) {
  const double x = v[0], inner = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
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
  return {row};
}

}  // namespace vitrine
