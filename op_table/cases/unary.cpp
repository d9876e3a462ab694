// Rows of the functions of one variable.
#include <cmath>

#include "op_table/pointwise.h"

namespace vitrine {
namespace {

using UnaryOp = Tensor (*)(const Tensor&);

/// What is special about one function: where it may be tested, and its value in double.
struct Function {
  const char* name;
  UnaryOp op;
  double (*formula)(double);
  double low = -2, high = 2;
  std::initializer_list<double> kinks = {};
};

std::vector<OpCase> unary_cases(const Call& call, const Formula& formula, double low, double high,
                                std::initializer_list<double> kinks) {
  std::vector<OpCase> cases;
  const std::vector<std::pair<const char*, Shape>> shapes = {
      {"vector", {17}},   {"matrix", {3, 5}}, {"three dims", {2, 3, 4}},
      {"size 1", {1, 1}}, {"0-d", {}},        {"empty", {2, 0}}};
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const auto& [name, shape] = shapes[i];
    cases.push_back(pointwise(name, {test_values(shape, i, low, high, kinks)}, call, formula));
  }
  return cases;
}

OpRow unary_row(const Function& f) {
  const Call call = [op = f.op](const Tensors& x) { return op(x[0]); };
  const Formula formula = [value = f.formula](const std::vector<double>& v) { return value(v[0]); };
  OpRow row;
  row.op = f.name;
  row.cases = [=, low = f.low, high = f.high, kinks = f.kinks] { return unary_cases(call, formula, low, high, kinks); };
  row.errors = {{[op = f.op] { op(zeros({2}, DType::boolean)); },
                 std::string(f.name) + ": dtype is bool, expected f32, f64 or bf16"},
                {[op = f.op] { op(Tensor()); }, std::string(f.name) + ": an operand is an undefined tensor"}};
  row.benchmark = pointwise_benchmark({128, 65, 768}, 1, call);
  return row;
}

OpRow clamp_row() {
  const Call call = [](const Tensors& x) { return clamp(x[0], -1, 0.5); };
  const Formula formula = [](const std::vector<double>& v) { return std::min(std::max(v[0], -1.0), 0.5); };
  OpRow row;
  row.op = "clamp";
  row.cases = [=] { return unary_cases(call, formula, -2, 2, {-1, 0.5}); };
  row.errors = {{[] { clamp(zeros({2}), 1, -1); }, "clamp: low is 1 and high is -1, expected low <= high"},
                {[] { clamp(zeros({2}), std::nan(""), 1); }, "clamp: low is nan"},
                {[] { clamp(zeros({2}, DType::i32), 0, 1); }, "clamp: dtype is i32, expected f32, f64 or bf16"}};
  row.benchmark = pointwise_benchmark({128, 65, 768}, 1, call);
  return row;
}

constexpr auto whole_kinks = {-2.0, -1.0, 0.0, 1.0, 2.0};
constexpr auto half_kinks = {-1.5, -0.5, 0.5, 1.5};
constexpr auto zero_kink = {0.0};

}  // namespace

std::vector<OpRow> unary_rows() {
  const std::vector<Function> functions = {
      {"neg", neg, [](double x) { return -x; }},
      {"abs", abs, [](double x) { return std::abs(x); }, -2, 2, zero_kink},
      {"sign", sign, [](double x) { return x < 0 ? -1.0 : 1.0; }, -2, 2, zero_kink},
      {"exp", exp, [](double x) { return std::exp(x); }},
      {"expm1", expm1, [](double x) { return std::expm1(x); }},
      {"log", log, [](double x) { return std::log(x); }, 0.3, 3},
      {"log1p", log1p, [](double x) { return std::log1p(x); }, -0.6, 3},
      {"sqrt", sqrt, [](double x) { return std::sqrt(x); }, 0.3, 3},
      {"rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }, 0.3, 3},
      {"reciprocal", reciprocal, [](double x) { return 1 / x; }, 0.5, 3},
      {"square", square, [](double x) { return x * x; }},
      {"sin", sin, [](double x) { return std::sin(x); }, -4, 4},
      {"cos", cos, [](double x) { return std::cos(x); }, -4, 4},
      {"tanh", tanh, [](double x) { return std::tanh(x); }, -4, 4},
      {"sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -4, 4},
      {"silu", silu, [](double x) { return x / (1 + std::exp(-x)); }, -4, 4},
      {"softplus", softplus, [](double x) { return std::log(1 + std::exp(x)); }, -4, 4},
      {"relu", relu, [](double x) { return x > 0 ? x : 0; }, -2, 2, zero_kink},
      {"erf", erf, [](double x) { return std::erf(x); }},
      {"floor", floor, [](double x) { return std::floor(x); }, -2, 2, whole_kinks},
      {"ceil", ceil, [](double x) { return std::ceil(x); }, -2, 2, whole_kinks},
      {"round", round, [](double x) { return std::nearbyint(x); }, -2, 2, half_kinks},
  };
  std::vector<OpRow> rows;
  for (const Function& function : functions) rows.push_back(unary_row(function));
  rows.push_back(clamp_row());
  return rows;
}

}  // namespace vitrine
