// Rows of the ops of two tensors: arithmetic, maximum and minimum, where, comparisons and logic.
#include <cmath>

#include "op_table/pointwise.h"

namespace vitrine {
namespace {

/// Multiples of 0.1, moved by `shift`: two such tensors with other shifts are never closer than the
/// shifts' distance, so that no finite difference crosses a tie.
Tensor grid_values(const Shape& shape, std::uint64_t stream, double shift) {
  const Tensor steps = test_indices(shape, 40, stream);
  Tensor x = empty(shape, DType::f64);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    x.data<double>()[i] = 0.1 * static_cast<double>(steps.data<std::int64_t>()[i] - 20) + shift;
  }
  return x;
}

/// Small whole numbers of any dtype, with many ties.
Tensor whole_values(const Shape& shape, std::uint64_t stream, DType dtype, std::int64_t from = -2) {
  Tensor x = test_indices(shape, 4, stream);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data<std::int64_t>()[i] += from;
  return cast_data(x, dtype);
}

Tensor flags(const Shape& shape, std::uint64_t stream) { return whole_values(shape, stream, DType::boolean, -1); }

using BinaryOp = Tensor (*)(const Tensor&, const Tensor&);
using Make = std::function<Tensor(const Shape&, std::uint64_t stream)>;

struct ShapePair {
  const char* name;
  Shape a, b;
};
const std::vector<ShapePair>& shape_pairs() {
  static const std::vector<ShapePair> pairs = {{"equal shapes", {3, 5}, {3, 5}},
                                               {"a row", {2, 3, 4}, {4}},
                                               {"a column", {2, 3}, {2, 1}},
                                               {"outer", {3, 1}, {1, 4}},
                                               {"inner dims", {2, 1, 3}, {2, 1}},
                                               {"0-d and 2-d", {}, {2, 3}},
                                               {"both 0-d", {}, {}},
                                               {"size 1", {1, 1}, {1}},
                                               {"empty", {0, 3}, {3}}};
  return pairs;
}

std::vector<OpCase> binary_cases(BinaryOp op, const Formula& formula, const Make& make_a, const Make& make_b) {
  std::vector<OpCase> cases;
  for (const auto& [name, a, b] : shape_pairs()) {
    cases.push_back(pointwise(
        name, {make_a(a, 1), make_b(b, 2)}, [op](const Tensors& x) { return op(x[0], x[1]); }, formula));
  }
  return cases;
}

std::vector<OpError> binary_errors(const std::string& name, BinaryOp op, DType dtype) {
  return {{[=] {
             op(zeros({2, 3}, dtype), zeros({2}, dtype));
           },
           name + ": shapes (2, 3) and (2)"},
          {[=] {
             op(zeros({2, 3}, dtype), zeros({4, 1, 2}, dtype));
           },
           name + ": shapes (2, 3) and (4, 1, 2)"},
          {[=] {
             op(zeros({2}, dtype), zeros({3, 2}, DType::u8));
           },
           fmt::format("{}: operands of shapes (2) and (3, 2) have dtypes {} and u8, expected one dtype", name,
                       name_of(dtype))},
          {[=] { op(Tensor(), zeros({3}, dtype)); }, name + ": an operand is an undefined tensor"}};
}

// ---- Arithmetic ----

OpRow arithmetic_row(const char* name, BinaryOp op, const Formula& formula, const Make& make_a, const Make& make_b,
                     const std::vector<OpCase>& more = {}) {
  OpRow row;
  row.op = name;
  row.cases = [=] {
    std::vector<OpCase> cases = binary_cases(op, formula, make_a, make_b);
    cases.insert(cases.end(), more.begin(), more.end());
    return cases;
  };
  row.errors = binary_errors(name, op, DType::f32);
  row.errors.push_back({[=] { op(zeros({2}, DType::boolean), zeros({2}, DType::boolean)); },
                        std::string(name) + ": dtype is bool, expected f32, f64 or bf16"});
  row.benchmark = pointwise_benchmark({128, 65, 192}, 2, [op](const Tensors& x) { return op(x[0], x[1]); });
  return row;
}

Make uniform(double low, double high) {
  return [=](const Shape& shape, std::uint64_t stream) { return test_values(shape, stream, low, high); };
}
Make grid(double shift) {
  return [=](const Shape& shape, std::uint64_t stream) { return grid_values(shape, stream, shift); };
}
Make whole(DType dtype) {
  return [=](const Shape& shape, std::uint64_t stream) { return whole_values(shape, stream, dtype); };
}

/// The op on whole numbers of both integer dtypes.
std::vector<OpCase> integer_cases(BinaryOp op, const Formula& formula) {
  std::vector<OpCase> cases;
  for (const DType dtype : {DType::i32, DType::i64}) {
    cases.push_back(pointwise(
        std::string(name_of(dtype)), {whole_values({2, 3}, 3, dtype), whole_values({3}, 4, dtype)},
        [op](const Tensors& x) { return op(x[0], x[1]); }, formula));
  }
  return cases;
}

/// The overload that takes a number.
OpCase scalar_case(const char* name, Tensor x, const std::function<Tensor(const Tensor&)>& op,
                   const std::function<double(double)>& formula) {
  return pointwise(
      name, {std::move(x)}, [op](const Tensors& in) { return op(in[0]); },
      [formula](const std::vector<double>& v) { return formula(v[0]); });
}

OpRow add_row() {
  const Formula formula = [](const std::vector<double>& v) { return v[0] + v[1]; };
  std::vector<OpCase> more = integer_cases(add, formula);
  more.push_back(scalar_case(
      "a number", test_values({3, 4}, 5), [](const Tensor& x) { return 1.5 + x + 0.25; },
      [](double x) { return x + 1.75; }));
  more.push_back(scalar_case(
      "number minus tensor", test_values({5}, 6), [](const Tensor& x) { return 1 - (x - 3); },
      [](double x) { return 4 - x; }));
  more.push_back(scalar_case(
      "a number, i64", whole_values({4}, 7, DType::i64), [](const Tensor& x) { return x + 2; },
      [](double x) { return x + 2; }));
  OpRow row = arithmetic_row("add", add, formula, uniform(-2, 2), uniform(-2, 2), more);
  row.errors.push_back({[] { add(zeros({2}, DType::i64), 0.5); }, "add: the scalar is 0.5 and x is i64"});
  return row;
}

OpRow sub_row() {
  const Formula formula = [](const std::vector<double>& v) { return v[0] - v[1]; };
  return arithmetic_row("sub", sub, formula, uniform(-2, 2), uniform(-2, 2), integer_cases(sub, formula));
}

OpRow mul_row() {
  const Formula formula = [](const std::vector<double>& v) { return v[0] * v[1]; };
  std::vector<OpCase> more = integer_cases(mul, formula);
  more.push_back(scalar_case(
      "a number", test_values({3, 4}, 5), [](const Tensor& x) { return -(0.5 * x) * 3 / 4; },
      [](double x) { return -0.375 * x; }));
  OpRow row = arithmetic_row("mul", mul, formula, uniform(-2, 2), uniform(-2, 2), more);
  row.errors.push_back({[] { mul(zeros({2}, DType::i32), 1.5); }, "mul: the scalar is 1.5 and x is i32"});
  return row;
}

OpRow div_row() {
  return arithmetic_row(
      "div", div, [](const std::vector<double>& v) { return v[0] / v[1]; }, uniform(-2, 2), uniform(0.5, 2));
}

OpRow pow_row() {
  std::vector<OpCase> more;
  for (const double c : {0.0, 0.5, 1.0, 2.0, -1.5}) {
    more.push_back(scalar_case(
        "a number", test_values({2, 3}, 5, 0.5, 2), [c](const Tensor& x) { return pow(x, c); },
        [c](double x) { return std::pow(x, c); }));
  }
  more.push_back(scalar_case(
      "negative base, whole exponent", test_values({5}, 6, -2, -0.5), [](const Tensor& x) { return pow(x, 3); },
      [](double x) { return x * x * x; }));
  OpRow row = arithmetic_row(
      "pow", pow, [](const std::vector<double>& v) { return std::pow(v[0], v[1]); }, uniform(0.5, 2), uniform(-2, 2),
      more);
  row.f32_tolerance = 2e-6;  // of results up to 4
  return row;
}

OpRow maximum_row() {
  return arithmetic_row(
      "maximum", maximum, [](const std::vector<double>& v) { return std::max(v[0], v[1]); }, grid(0), grid(0.05));
}

OpRow minimum_row() {
  return arithmetic_row(
      "minimum", minimum, [](const std::vector<double>& v) { return std::min(v[0], v[1]); }, grid(0), grid(0.05));
}

// ---- where ----

OpRow where_row() {
  const auto one = [](const char* name, const Shape& condition, const Shape& a, const Shape& b) {
    return pointwise(
        name, {flags(condition, 1), test_values(a, 2), test_values(b, 3)},
        [](const Tensors& x) { return where(x[0], x[1], x[2]); },
        [](const std::vector<double>& v) { return v[0] != 0 ? v[1] : v[2]; });
  };
  OpRow row;
  row.op = "where";
  row.f32_tolerance = 0;
  row.cases = [one] {
    return std::vector<OpCase>{one("equal shapes", {3, 5}, {3, 5}, {3, 5}),
                               one("condition is a row", {4}, {3, 4}, {3, 4}),
                               one("condition is the largest", {2, 3, 4}, {4}, {3, 1}),
                               one("scalars", {3}, {}, {}),
                               one("0-d", {}, {}, {}),
                               one("empty", {0, 2}, {2}, {1})};
  };
  row.errors = {
      {[] { where(zeros({2}), zeros({2}), zeros({2})); }, "where: condition of shape (2) has dtype f32, expected bool"},
      {[] { where(zeros({2}, DType::boolean), zeros({2}), zeros({2}, DType::f64)); }, "where: operands"},
      {[] { where(zeros({3}, DType::boolean), zeros({2}), zeros({2})); }, "where: shapes (3) and (2)"}};
  row.benchmark = [] {
    const Shape shape{128, 65, 192};
    const Tensor a = cast_data(test_values(shape, 1), DType::f32);
    return OpBenchmark{to_string(shape),
                       {less(a, zeros({})), a, a},
                       [](const Tensors& x) { return where(x[0], x[1], x[2]); },
                       0,
                       9.0 * static_cast<double>(a.numel())};
  };
  return row;
}

// ---- Comparisons and logic ----

OpRow comparison_row(const char* name, BinaryOp op, bool (*formula)(double, double)) {
  const Formula as_number = [formula](const std::vector<double>& v) { return formula(v[0], v[1]) ? 1.0 : 0.0; };
  OpRow row;
  row.op = name;
  row.differentiable = false;
  row.f32_tolerance = 0;
  row.cases = [=] {
    std::vector<OpCase> cases = binary_cases(op, as_number, whole(DType::f64), whole(DType::f64));
    for (const DType dtype : {DType::i32, DType::i64, DType::u8, DType::boolean}) {
      cases.push_back(pointwise(
          std::string(name_of(dtype)), {whole_values({4, 5}, 3, dtype, 0), whole_values({5}, 4, dtype, 0)},
          [op](const Tensors& x) { return op(x[0], x[1]); }, as_number));
    }
    Tensor special = full({4}, std::nan(""), DType::f64);
    special.data<double>()[1] = INFINITY;
    special.data<double>()[2] = -INFINITY;
    cases.push_back(pointwise(
        "NaN and infinities", {special, special.view_as({4, 1}, {1, 1}, 0)},
        [op](const Tensors& x) { return op(x[0], x[1]); }, as_number));
    return cases;
  };
  row.errors = binary_errors(name, op, DType::f32);
  row.benchmark = pointwise_benchmark({128, 65, 192}, 2, [op](const Tensors& x) { return op(x[0], x[1]); });
  return row;
}

OpRow logic_row(const char* name, BinaryOp op, bool (*formula)(bool, bool)) {
  const Make make = [](const Shape& shape, std::uint64_t stream) { return flags(shape, stream); };
  OpRow row;
  row.op = name;
  row.differentiable = false;
  row.cases = [=] {
    return binary_cases(
        op, [=](const std::vector<double>& v) { return formula(v[0] != 0, v[1] != 0) ? 1.0 : 0.0; }, make, make);
  };
  row.errors = binary_errors(name, op, DType::boolean);
  row.errors.push_back({[=] { op(zeros({2}), zeros({2})); }, std::string(name) + ": dtype is f32, expected bool"});
  row.benchmark = [=] {
    const Tensor x = flags({128, 65, 192}, 1);
    return OpBenchmark{"(128, 65, 192)",
                       {x, x},
                       [op](const Tensors& in) { return op(in[0], in[1]); },
                       0,
                       3.0 * static_cast<double>(x.numel())};
  };
  return row;
}

OpRow logical_not_row() {
  const Call call = [](const Tensors& x) { return logical_not(x[0]); };
  const Formula formula = [](const std::vector<double>& v) { return v[0] != 0 ? 0.0 : 1.0; };
  OpRow row;
  row.op = "logical_not";
  row.differentiable = false;
  row.cases = [=] {
    return std::vector<OpCase>{pointwise("matrix", {flags({3, 5}, 1)}, call, formula),
                               pointwise("0-d", {flags({}, 2)}, call, formula),
                               pointwise("empty", {flags({0}, 3)}, call, formula)};
  };
  row.errors = {{[] { logical_not(zeros({2}, DType::u8)); }, "logical_not: dtype is u8, expected bool"}};
  row.benchmark = [=] {
    const Tensor x = flags({128, 65, 192}, 1);
    return OpBenchmark{"(128, 65, 192)", {x}, call, 0, 2.0 * static_cast<double>(x.numel())};
  };
  return row;
}

}  // namespace

std::vector<OpRow> binary_rows() {
  return {add_row(),
          sub_row(),
          mul_row(),
          div_row(),
          pow_row(),
          maximum_row(),
          minimum_row(),
          where_row(),
          comparison_row("equal", equal, [](double a, double b) { return a == b; }),
          comparison_row("not_equal", not_equal, [](double a, double b) { return a != b; }),
          comparison_row("less", less, [](double a, double b) { return a < b; }),
          comparison_row("less_equal", less_equal, [](double a, double b) { return a <= b; }),
          comparison_row("greater", greater, [](double a, double b) { return a > b; }),
          comparison_row("greater_equal", greater_equal, [](double a, double b) { return a >= b; }),
          logic_row("logical_and", logical_and, [](bool a, bool b) { return a && b; }),
          logic_row("logical_or", logical_or, [](bool a, bool b) { return a || b; }),
          logical_not_row()};
}

}  // namespace vitrine
