// Rows of the reductions: sum, mean, amax, amin, var, logsumexp, argmax, sum_to.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "op_table/op_table.h"

namespace vitrine {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

using Values = std::vector<double>;
using Formula = std::function<double(const Values&)>;                               // of the elements of one result
using Reduction = std::function<Tensor(const Tensor&, const Dims&, bool keepdim)>;  // an op of ours

/// The reduction of x over dims, one result after the other.
Tensor reduce_naively(const Tensor& x, const Dims& dims, bool keepdim, const Formula& formula) {
  std::vector<bool> reduced(static_cast<std::size_t>(x.dim()), dims.empty());
  for (const std::int64_t d : dims) reduced[static_cast<std::size_t>(d < 0 ? d + x.dim() : d)] = true;
  Shape shape, loop;  // of the result, and of the result with its reduced dims at size 1
  for (int d = 0; d < x.dim(); ++d) {
    const bool gone = reduced[static_cast<std::size_t>(d)];
    loop.push_back(gone ? 1 : x.size(d));
    if (!gone || keepdim) shape.push_back(loop.back());
  }
  Tensor y = empty(shape, DType::f64);
  for_each_index(loop, [&](const Dims& kept, std::int64_t position) {
    Values values;
    for_each_index(x.shape(), [&](const Dims& index, std::int64_t) {
      for (int d = 0; d < x.dim(); ++d) {
        if (!reduced[static_cast<std::size_t>(d)] && index[d] != kept[d]) return;
      }
      values.push_back(value_at(x, index));
    });
    y.data<double>()[position] = formula(values);
  });
  return y;
}

/// Distinct multiples of 0.05 in a scattered order, so that no finite difference changes which one
/// is the largest.
Tensor distinct_values(const Shape& shape) {
  Tensor x = empty(shape, DType::f64);
  for (std::int64_t i = 0; i < x.numel(); ++i)
    x.data<double>()[i] = 0.05 * static_cast<double>((i * 59 + 17) % 101) - 2;
  return x;
}

OpCase over(const std::string& name, const Tensor& x, const Dims& dims, bool keepdim, const Reduction& op,
            const Formula& formula) {
  return {name,
          {x},
          [=](const Tensors& in) { return op(in[0], dims, keepdim); },
          [=](const Tensors& in) { return reduce_naively(in[0], dims, keepdim, formula); }};
}

/// The shapes that every reduction meets: contiguous rows, columns, both, and whatever lies
/// between.
std::vector<OpCase> common_cases(const Reduction& op, const Formula& formula) {
  return {over("last dim", distinct_values({3, 5}), {-1}, false, op, formula),
          over("last dim, longer than the lanes", distinct_values({2, 45}), {1}, true, op, formula),
          over("first dim", distinct_values({9, 6}), {0}, false, op, formula),
          over("middle dim", distinct_values({2, 7, 3}), {1}, true, op, formula),
          over("two outer dims", distinct_values({3, 4, 5}), {0, 1}, false, op, formula),
          over("first and last dim, named backwards", distinct_values({3, 4, 5}), {-1, 0}, false, op, formula),
          over("all", distinct_values({5, 7}), {}, false, op, formula),
          over("all, keepdim", distinct_values({2, 3, 4}), {}, true, op, formula),
          over("size-1 dims", distinct_values({1, 6, 1}), {1, 2}, false, op, formula),
          over("no results", zeros({3, 0}, DType::f64), {0}, false, op, formula)};
}

/// A short input repeated until it fills several chunks of work: `rows` along dim 0, or one long
/// row.
Tensor repeated(const Tensor& x, std::int64_t times) { return contiguous(expand(unsqueeze(x, 0), {times, x.size(0)})); }

OpCase long_columns(const Reduction& op, const Formula& formula) {
  return {"many chunks of rows",
          {test_values({5}, 3, 0.5, 2)},
          [=](const Tensors& in) { return op(repeated(in[0], 1500), {0}, false); },
          [=](const Tensors& in) { return reduce_naively(repeated(in[0], 1500), {0}, false, formula); }};
}

OpCase long_row(const Reduction& op, const Formula& formula) {
  return {"many chunks of one row",
          {test_values({5}, 4, 0.5, 2)},
          [=](const Tensors& in) { return op(reshape(repeated(in[0], 5000), {25000}), {}, false); },
          [=](const Tensors& in) { return reduce_naively(repeated(in[0], 5000), {}, false, formula); }};
}

OpBenchmark benchmark_over(const Reduction& op, const Dims& dims) {
  const Shape shape = {128, 65, 768};
  return {to_string(shape) + " over " + to_string(dims),
          {cast_data(test_values(shape, 1), DType::f32)},
          [=](const Tensors& in) { return op(in[0], dims, false); },
          0,
          4.0 * static_cast<double>(element_count(shape))};
}

OpRow reduction_row(const std::string& name, const Reduction& op, const Formula& formula, std::vector<OpCase> more) {
  return {.op = name,
          .cases =
              [=] {
                auto cases = common_cases(op, formula);
                cases.insert(cases.end(), more.begin(), more.end());
                return cases;
              },
          .f32_tolerance = 2e-6,  // in a long sum of equal numbers, all roundings go the same way
          .errors = {{[=] {
                        op(zeros({2, 3}), {2}, false);
                      },
                      name + ": dim is 2, expected -2 to 1"},
                     {[=] {
                        op(zeros({2, 3}), {1, -1}, false);
                      },
                      name + ": dims (1, -1) name dim 1 twice, expected distinct dims of x (2, 3)"},
                     {[=] { op(zeros({2}, DType::boolean), {}, false); }, name + ": dtype is bool, expected f32"}},
          .benchmark =
              [=] {
                return benchmark_over(op, {0, 1});
              }};
}

double sum_of(const Values& v) { return std::accumulate(v.begin(), v.end(), 0.0); }
double mean_of(const Values& v) { return sum_of(v) / static_cast<double>(v.size()); }
double max_of(const Values& v) { return *std::ranges::max_element(v); }
double min_of(const Values& v) { return *std::ranges::min_element(v); }
double log_sum_exp_of(const Values& v) {
  double total = 0;
  for (const double x : v) total += std::exp(x);
  return std::log(total);
}
Formula var_of(int correction) {
  return [=](const Values& v) {
    double total = 0;
    for (const double x : v) total += (x - mean_of(v)) * (x - mean_of(v));
    return total / static_cast<double>(static_cast<int>(v.size()) - correction);
  };
}

OpRow sum_row() {
  return reduction_row("sum", sum, sum_of,
                       {over("0-d", full({}, 1.5, DType::f64), {}, false, sum, sum_of),
                        over("nothing", zeros({0, 3}, DType::f64), {0}, false, sum, sum_of), long_columns(sum, sum_of),
                        long_row(sum, sum_of)});
}

OpRow mean_row() {
  return reduction_row("mean", mean, mean_of,
                       {over("0-d", full({}, 1.5, DType::f64), {}, false, mean, mean_of), long_columns(mean, mean_of),
                        long_row(mean, mean_of)});
}

OpRow extreme_row(const std::string& name, const Reduction& op, const Formula& formula) {
  OpRow row = reduction_row(
      name, op, formula, {over("0-d", full({}, 1.5, DType::f64), {}, false, op, formula), long_columns(op, formula)});
  row.errors.push_back({[=] {
                          op(zeros({0, 3}), {0}, false);
                        },
                        name + ": x has shape (0, 3), expected at least one element along dims (0)"});
  return row;
}

OpRow var_row() {
  const auto with = [](int correction) -> Reduction {
    return [=](const Tensor& x, const Dims& dims, bool keepdim) { return var(x, dims, keepdim, correction); };
  };
  OpRow row = reduction_row("var", with(1), var_of(1),
                            {over("population", distinct_values({3, 5}), {0}, false, with(0), var_of(0)),
                             over("of one element", distinct_values({3, 1}), {1}, false, with(0), var_of(0))});
  row.errors.push_back({[=] {
                          var(zeros({3, 1}), {1});
                        },
                        "var: correction is 1 for 1 elements along dims (1) of x (3, 1), expected 0 <= correction"});
  return row;
}

OpRow logsumexp_row() {
  // A masked row gives -infinity, which no finite difference can read; its exponential is 0.
  const Reduction exponential = [](const Tensor& x, const Dims& dims, bool keepdim) {
    return exp(logsumexp(x, dims, keepdim));
  };
  const Formula sum_exp_of = [](const Values& v) { return std::exp(log_sum_exp_of(v)); };
  const Tensor masked = from_values<double>({-infinity, -infinity, -infinity, 0.5, -infinity, 1}, {2, 3});
  return reduction_row("logsumexp", logsumexp, log_sum_exp_of,
                       {over("a fully masked row", masked, {1}, false, exponential, sum_exp_of),
                        long_columns(logsumexp, log_sum_exp_of)});
}

/// The first maximum along dim, with NaN above all numbers.
Tensor argmax_naively(const Tensor& x, int dim, bool keepdim) {
  return reduce_naively(x, {dim}, keepdim, [](const Values& v) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < v.size(); ++i) {
      if (v[i] > v[best] || (std::isnan(v[i]) && !std::isnan(v[best]))) best = i;
    }
    return static_cast<double>(best);
  });
}

OpRow argmax_row() {
  const auto along = [](const std::string& name, const Tensor& x, int dim, bool keepdim = false) {
    return OpCase{name,
                  {x},
                  [=](const Tensors& in) { return argmax(in[0], dim, keepdim); },
                  [=](const Tensors& in) { return argmax_naively(in[0], dim, keepdim); }};
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  return {.op = "argmax",
          .cases = [=]() -> std::vector<OpCase> {
            return {along("last dim", distinct_values({4, 7}), -1),
                    along("longer than the lanes", distinct_values({2, 50}), 1, true),
                    along("first dim", distinct_values({8, 5}), 0),
                    along("middle dim", distinct_values({2, 6, 3}), 1),
                    along("ties", from_values<double>({1, 3, 3, 2, 2, 2, 0, 0, 0}, {3, 3}), 1),
                    along("NaN", from_values<double>({1, nan, 5, nan, 2, nan}, {2, 3}), 1),
                    along("-infinity", full({2, 3}, -infinity, DType::f64), 1)};
          },
          .differentiable = false,
          .errors = {{[] {
                        argmax(zeros({2, 3}), 2);
                      },
                      "argmax: dim is 2, expected -2 to 1"},
                     {[] {
                        argmax(zeros({2, 0}));
                      },
                      "argmax: x has shape (2, 0), expected at least one element"},
                     {[] { argmax(zeros({2}, DType::boolean)); }, "argmax: dtype is bool, expected f32"}},
          .benchmark =
              [] {
                return OpBenchmark{"(8320, 768)",
                                   {cast_data(test_values({8320, 768}, 1), DType::f32)},
                                   [](const Tensors& in) { return argmax(in[0]); },
                                   0,
                                   4.0 * 8320 * 768};
              }};
}

/// Adds every element of x to the element of the smaller shape that would be broadcast to its
/// place.
Tensor sum_to_naively(const Tensor& x, const Shape& shape) {
  Tensor y = zeros(shape, DType::f64);
  for_each_index(x.shape(), [&](const Dims& index, std::int64_t) {
    std::int64_t position = 0;
    for (int d = 0; d < shape.size(); ++d) {
      position = position * shape[d] + (shape[d] == 1 ? 0 : index[x.dim() - shape.size() + d]);
    }
    y.data<double>()[position] += value_at(x, index);
  });
  return y;
}

OpRow sum_to_row() {
  const auto to = [](const std::string& name, const Shape& from, const Shape& shape) {
    return OpCase{name,
                  {test_values(from, 11)},
                  [=](const Tensors& in) { return sum_to(in[0], shape); },
                  [=](const Tensors& in) { return sum_to_naively(in[0], shape); }};
  };
  return {.op = "sum_to",
          .cases = [=]() -> std::vector<OpCase> {
            return {to("leading dims", {3, 4, 5}, {5}),     to("a middle dim", {3, 4, 5}, {3, 1, 5}),
                    to("lead and last", {3, 4, 5}, {4, 1}), to("to 0-d", {3, 4}, {}),
                    to("the same shape", {3, 4}, {3, 4}),   to("only ones to drop", {1, 1, 4}, {4}),
                    to("from nothing", {0, 4}, {1, 4})};
          },
          .errors = {{[] {
                        sum_to(zeros({2, 3}), {2});
                      },
                      "sum_to: shape is (2), expected a shape that broadcasts to x (2, 3)"},
                     {[] {
                        sum_to(zeros({3}), {1, 3});
                      },
                      "sum_to: shape is (1, 3), expected a shape that broadcasts to x (3)"},
                     {[] {
                        sum_to(zeros({2, 3}, DType::u8), {3});
                      },
                      "sum_to: dtype is u8, expected f32"}},
          .benchmark =
              [] {
                return OpBenchmark{"(128, 65, 192) to (65, 192)",
                                   {cast_data(test_values({128, 65, 192}, 1), DType::f32)},
                                   [](const Tensors& in) {
                                     return sum_to(in[0], {65, 192});
                                   },
                                   0,
                                   4.0 * 128 * 65 * 192};
              }};
}

}  // namespace

std::vector<OpRow> reduction_rows() {
  return {sum_row(),
          mean_row(),
          extreme_row("amax", amax, max_of),
          extreme_row("amin", amin, min_of),
          var_row(),
          logsumexp_row(),
          argmax_row(),
          sum_to_row()};
}

}  // namespace vitrine
