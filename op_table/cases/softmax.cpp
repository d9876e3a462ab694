// Rows of softmax and log_softmax.
#include <cmath>
#include <limits>

#include "op_table/op_table.h"
#include "ops/composed.h"

namespace vitrine {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

using SoftmaxOp = Tensor (*)(const Tensor&, int dim);

/// ln sum e^x of the row along `dim` through `index`.
double log_sum_exp_at(const Tensor& x, Dims index, int dim) {
  double total = 0;
  for (index[dim] = 0; index[dim] < x.size(dim); ++index[dim]) total += std::exp(value_at(x, index));
  return std::log(total);
}

Tensor softmax_naively(const Tensor& x, int dim, bool logarithm) {
  Tensor y = empty(x.shape(), DType::f64);
  for_each_index(x.shape(), [&](const Dims& index, std::int64_t position) {
    const double total = log_sum_exp_at(x, index, dim < 0 ? dim + x.dim() : dim);
    const double log_p = total == -infinity ? -infinity : value_at(x, index) - total;
    y.data<double>()[position] = logarithm ? log_p : std::exp(log_p);
  });
  return y;
}

std::vector<OpCase> common_cases(SoftmaxOp op, bool logarithm) {
  const auto along = [=](const std::string& name, const Tensor& x, int dim) {
    return OpCase{name,
                  {x},
                  [=](const Tensors& in) { return op(in[0], dim); },
                  [=](const Tensors& in) { return softmax_naively(in[0], dim, logarithm); }};
  };
  return {along("last dim", test_values({3, 5}, 1), -1),
          along("longer than the lanes", test_values({2, 39}, 2), 1),
          along("first dim", test_values({4, 3}, 3), 0),
          along("middle dim", test_values({2, 5, 3}, 4), 1),
          along("one dim", test_values({6}, 5), 0),
          along("rows of one", test_values({4, 1}, 6), 1),
          along("no rows", zeros({0, 3}, DType::f64), 1),
          along("rows of none", zeros({3, 0}, DType::f64), 1),
          along("wide range", test_values({2, 6}, 7, -40, 40), 1)};
}

OpRow softmax_family_row(const std::string& name, SoftmaxOp op, SoftmaxOp composed, bool logarithm) {
  return {.op = name,
          .cases = [=] { return common_cases(op, logarithm); },
          .errors = {{[=] {
                        op(zeros({2, 3}), 2);
                      },
                      name + ": dim is 2, expected -2 to 1"},
                     {[=] { op(zeros({}), -1); }, name + ": x has shape (), expected at least one dimension"},
                     {[=] { op(zeros({2}, DType::i64), 0); }, name + ": dtype is i64, expected f32, f64 or bf16"}},
          .benchmark =
              [=] {
                return OpBenchmark{"(128, 3, 65, 65)",
                                   {cast_data(test_values({128, 3, 65, 65}, 1), DType::f32)},
                                   [=](const Tensors& in) { return op(in[0], -1); },
                                   0,
                                   2 * 4.0 * 128 * 3 * 65 * 65};
              },
          .composition =
              [=] {
                return OpComposition{{test_values({6, 45}, 1)},
                                     [=](const Tensors& in) {
                                       return concat({op(in[0], -1), op(in[0], 0)}, 0);
                                     },
                                     [=](const Tensors& in) {
                                       return concat({composed(in[0], -1), composed(in[0], 0)}, 0);
                                     }};
              }};
}

OpRow softmax_row() {
  OpRow row = softmax_family_row("softmax", softmax, softmax_composed, false);
  row.cases = [] {
    auto cases = common_cases(softmax, false);
    const Tensor masked = from_values<double>({-infinity, -infinity, -infinity, 0.5, -infinity, 1}, {2, 3});
    const auto reference = [](const Tensors& in) { return softmax_naively(in[0], 1, false); };
    cases.push_back({"a fully masked row", {masked}, [](const Tensors& in) { return softmax(in[0]); }, reference});
    return cases;
  };
  return row;
}

}  // namespace

std::vector<OpRow> softmax_rows() {
  OpRow log_row = softmax_family_row("log_softmax", log_softmax, log_softmax_composed, true);
  log_row.f32_tolerance = 2e-6;
  return {softmax_row(), log_row};
}

}  // namespace vitrine
