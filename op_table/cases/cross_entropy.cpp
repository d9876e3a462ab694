// Rows of the losses: cross_entropy, soft_cross_entropy, binary_cross_entropy.
#include <cmath>
#include <limits>

#include "op_table/op_table.h"
#include "ops/composed.h"

namespace vitrine {
namespace {

double log_probability(const Tensor& logits, std::int64_t b, std::int64_t k) {
  double total = 0;
  for (std::int64_t j = 0; j < logits.size(1); ++j) total += std::exp(value_at(logits, {b, j}));
  return value_at(logits, {b, k}) - std::log(total);
}

/// Mean over the batch of -sum target log p, with targets (B, K) given one by one. Targets of 0 do
/// not look at p.
Tensor cross_entropy_naively(const Tensor& logits,
                             const std::function<double(std::int64_t b, std::int64_t k)>& target) {
  double total = 0;
  for (std::int64_t b = 0; b < logits.size(0); ++b) {
    for (std::int64_t k = 0; k < logits.size(1); ++k) {
      if (target(b, k) != 0) total -= target(b, k) * log_probability(logits, b, k);
    }
  }
  return full({}, total / static_cast<double>(logits.size(0)), DType::f64);
}

// ---- cross_entropy ----

OpCase with_labels(const std::string& name, const Tensor& logits, const Tensor& labels, double smoothing = 0) {
  return {name,
          {logits, labels},
          [=](const Tensors& in) { return cross_entropy(in[0], in[1], smoothing); },
          [=](const Tensors& in) {
            const auto K = static_cast<double>(in[0].size(1));
            return cross_entropy_naively(in[0], [&](std::int64_t b, std::int64_t k) {
              const bool is_label = static_cast<std::int64_t>(value_at(in[1], {b})) == k;
              return (is_label ? 1 - smoothing : 0) + smoothing / K;
            });
          }};
}

std::vector<OpCase> cross_entropy_cases() {
  const double minus_infinity = -std::numeric_limits<double>::infinity();
  const Tensor masked = from_values<double>({0.5, minus_infinity, 1, -1, minus_infinity, 2}, {2, 3});
  return {with_labels("i64 labels", test_values({4, 5}, 1), test_indices({4}, 5, 2)),
          with_labels("i32 labels", test_values({3, 7}, 3), test_indices({3}, 7, 4, DType::i32)),
          with_labels("smoothing", test_values({4, 10}, 5), test_indices({4}, 10, 6), 0.1),
          with_labels("nothing but smoothing", test_values({2, 3}, 7), test_indices({2}, 3, 8), 1),
          with_labels("longer than the lanes", test_values({2, 45}, 9), test_indices({2}, 45, 10), 0.1),
          with_labels("one row", test_values({1, 4}, 11), test_indices({1}, 4, 12)),
          with_labels("one class", test_values({3, 1}, 13), test_indices({3}, 1, 14)),
          with_labels("masked classes", masked, from_values<std::int64_t>({2, 0}, {2})),
          with_labels("wide range", test_values({3, 6}, 15, -30, 30), test_indices({3}, 6, 16))};
}

OpRow cross_entropy_row() {
  const auto labels = [](std::int64_t first, std::int64_t second) {
    return from_values<std::int64_t>({first, second}, {2});
  };
  return {.op = "cross_entropy",
          .cases = cross_entropy_cases,
          .errors = {{[=] {
                        cross_entropy(zeros({2, 10}), labels(3, 10));
                      },
                      "cross_entropy: labels[1] is 10, expected a class in [0, 10)"},
                     {[=] {
                        cross_entropy(zeros({2, 10}), labels(-1, 0));
                      },
                      "cross_entropy: labels[0] is -1, expected a class in [0, 10)"},
                     {[=] {
                        cross_entropy(zeros({3, 10}), labels(0, 0));
                      },
                      "cross_entropy: labels have shape (2), expected (3) = first dimension of logits (3, 10)"},
                     {[=] {
                        cross_entropy(zeros({2, 10}), zeros({2}));
                      },
                      "cross_entropy: labels are f32, expected i32 or i64"},
                     {[=] {
                        cross_entropy(zeros({0, 10}), zeros({0}, DType::i64));
                      },
                      "cross_entropy: logits have shape (0, 10), expected (B, K) with B, K >= 1"},
                     {[=] {
                        cross_entropy(zeros({2, 10}), labels(0, 0), 1.5);
                      },
                      "cross_entropy: smoothing is 1.5, expected a number in [0, 1]"}},
          .benchmark =
              [] {
                return OpBenchmark{"(128, 1000)",
                                   {cast_data(test_values({128, 1000}, 1), DType::f32), test_indices({128}, 1000, 2)},
                                   [](const Tensors& in) { return cross_entropy(in[0], in[1], 0.1); },
                                   0,
                                   4.0 * 128 * 1000};
              },
          .composition =
              [] {
                return OpComposition{{test_values({6, 45}, 1), test_indices({6}, 45, 4)},
                                     [](const Tensors& in) { return cross_entropy(in[0], in[1], 0.1); },
                                     [](const Tensors& in) { return cross_entropy_composed(in[0], in[1], 0.1); }};
              }};
}

// ---- soft_cross_entropy ----

OpCase with_targets(const std::string& name, const Tensor& logits, const Tensor& targets) {
  return {
      name,
      {logits, targets},
      [](const Tensors& in) { return soft_cross_entropy(in[0], in[1]); },
      [](const Tensors& in) {
        return cross_entropy_naively(in[0], [&](std::int64_t b, std::int64_t k) { return value_at(in[1], {b, k}); });
      }};
}

std::vector<OpCase> soft_cross_entropy_cases() {
  return {with_targets("probabilities", test_values({4, 5}, 1), test_values({4, 5}, 2, 0, 0.4)),
          with_targets("any targets", test_values({3, 4}, 3), test_values({3, 4}, 4)),
          with_targets("longer than the lanes", test_values({2, 45}, 5), test_values({2, 45}, 6, 0, 0.1)),
          with_targets("one row", test_values({1, 4}, 7), test_values({1, 4}, 8, 0, 0.5)),
          with_targets("one class", test_values({3, 1}, 9), test_values({3, 1}, 10))};
}

OpRow soft_cross_entropy_row() {
  return {.op = "soft_cross_entropy",
          .cases = soft_cross_entropy_cases,
          .errors = {{[] {
                        soft_cross_entropy(zeros({2, 3}), zeros({2, 4}));
                      },
                      "soft_cross_entropy: targets have shape (2, 4), expected (2, 3) = shape of logits"},
                     {[] { soft_cross_entropy(zeros({6}), zeros({6})); },
                      "soft_cross_entropy: logits have shape (6), expected (B, K) with B, K >= 1"},
                     {[] {
                        soft_cross_entropy(zeros({2, 3}), zeros({2, 3}, DType::f64));
                      },
                      "dtypes f32 and f64"}},
          .benchmark =
              [] {
                return OpBenchmark{"(128, 1000)",
                                   {cast_data(test_values({128, 1000}, 1), DType::f32),
                                    cast_data(test_values({128, 1000}, 2), DType::f32)},
                                   [](const Tensors& in) { return soft_cross_entropy(in[0], in[1]); },
                                   0,
                                   2 * 4.0 * 128 * 1000};
              },
          .composition =
              [] {
                return OpComposition{{test_values({6, 45}, 1), test_values({6, 45}, 5)},
                                     [](const Tensors& in) { return soft_cross_entropy(in[0], in[1]); },
                                     [](const Tensors& in) { return soft_cross_entropy_composed(in[0], in[1]); }};
              }};
}

// ---- binary_cross_entropy ----

OpCase binary(const std::string& name, const Tensor& logits, const Tensor& targets) {
  return {name,
          {logits, targets},
          [](const Tensors& in) { return binary_cross_entropy(in[0], in[1]); },
          [](const Tensors& in) {
            double total = 0;
            for_each_index(in[0].shape(), [&](const Dims& index, std::int64_t) {
              const double p = 1 / (1 + std::exp(-value_at(in[0], index))), t = value_at(in[1], index);
              total -= t * std::log(p) + (1 - t) * std::log1p(-p);
            });
            return full({}, total / static_cast<double>(in[0].numel()), DType::f64);
          }};
}

std::vector<OpCase> binary_cross_entropy_cases() {
  return {binary("two dims", test_values({4, 5}, 1), test_values({4, 5}, 2, 0, 1)),
          binary("three dims", test_values({2, 3, 4}, 3), test_values({2, 3, 4}, 4, 0, 1)),
          binary("0-d", test_values({}, 5), test_values({}, 6, 0, 1)),
          binary("far from zero", test_values({20}, 7, -12, 12), test_values({20}, 8, 0, 1))};
}

OpRow binary_cross_entropy_row() {
  return {.op = "binary_cross_entropy",
          .cases = binary_cross_entropy_cases,
          .errors = {{[] {
                        binary_cross_entropy(zeros({2, 3}), zeros({3}));
                      },
                      "binary_cross_entropy: targets have shape (3), expected (2, 3) = shape of logits"},
                     {[] { binary_cross_entropy(zeros({0}), zeros({0})); },
                      "binary_cross_entropy: logits have shape (0), expected at least one element"},
                     {[] { binary_cross_entropy(zeros({2}), zeros({2}, DType::f64)); }, "dtypes f32 and f64"}},
          .benchmark =
              [] {
                return OpBenchmark{"(128, 1000)",
                                   {cast_data(test_values({128, 1000}, 1), DType::f32),
                                    cast_data(test_values({128, 1000}, 2), DType::f32)},
                                   [](const Tensors& in) { return binary_cross_entropy(in[0], in[1]); },
                                   0,
                                   2 * 4.0 * 128 * 1000};
              },
          .composition =
              [] {
                return OpComposition{{test_values({6, 45}, 1), test_values({6, 45}, 6, 0, 1)},
                                     [](const Tensors& in) { return binary_cross_entropy(in[0], in[1]); },
                                     [](const Tensors& in) { return binary_cross_entropy_composed(in[0], in[1]); }};
              }};
}

}  // namespace

std::vector<OpRow> cross_entropy_rows() {
  return {cross_entropy_row(), soft_cross_entropy_row(), binary_cross_entropy_row()};
}

}  // namespace vitrine
