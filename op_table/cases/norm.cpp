// Rows of batch_norm, group_norm and standardize_weight.
#include <cmath>

#include "op_table/moves.h"
#include "ops/composed.h"

namespace vitrine {
namespace {

/// (x - mean) / sqrt(var + epsilon) with mean and variance of the elements that `same_set` puts
/// with `at`.
Tensor normalize_naively(const Tensor& x, double epsilon,
                         const std::function<bool(const Dims& at, const Dims& other)>& same_set) {
  return from_elements(x.shape(), [&](const Dims& at) {
    double count = 0, mean = 0, variance = 0;
    const auto for_each = [&](const std::function<void(double)>& body) {
      for_each_index(x.shape(), [&](const Dims& other, std::int64_t) {
        if (same_set(at, other)) body(value_at(x, other));
      });
    };
    for_each([&](double value) { mean += value, ++count; });
    mean /= count;
    for_each([&](double value) { variance += (value - mean) * (value - mean) / count; });
    return (value_at(x, at) - mean) / std::sqrt(variance + epsilon);
  });
}

/// n weight[c] + bias[c]
Tensor scale_naively(const Tensor& n, const Tensor& weight, const Tensor& bias) {
  return from_elements(
      n.shape(), [&](const Dims& at) { return value_at(n, at) * value_at(weight, {at[1]}) + value_at(bias, {at[1]}); });
}

Tensors images_and_factors(const Shape& shape, double center = 0) {
  return {test_values(shape, 1, center - 2, center + 2), test_values({shape[1]}, 2), test_values({shape[1]}, 3)};
}

/// Running statistics for x, the same in every call: 0.5 + c / 4 and 1 + c / 2.
RunningStatistics running_statistics(const Tensor& x) {
  const DType dtype = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const Tensor c = arange(x.size(1), dtype, x.device());
  return {c * 0.25 + 0.5, c * 0.5 + 1.0};
}

OpCase batch(const char* name, const Shape& shape, bool training, double epsilon = 1e-5, double center = 0) {
  return {name, images_and_factors(shape, center),
          [=](const Tensors& in) {
            return batch_norm(in[0], in[1], in[2], running_statistics(in[0]), training, 0.1, epsilon);
          },
          [=](const Tensors& in) {
            const auto same_channel = [](const Dims& at, const Dims& other) { return at[1] == other[1]; };
            if (training) return scale_naively(normalize_naively(in[0], epsilon, same_channel), in[1], in[2]);
            const Tensor n = from_elements(in[0].shape(), [&](const Dims& at) {
              const auto c = static_cast<double>(at[1]);
              return (value_at(in[0], at) - (0.5 + c / 4)) / std::sqrt(1 + c / 2 + epsilon);
            });
            return scale_naively(n, in[1], in[2]);
          }};
}

OpCase grouped(const char* name, const Shape& shape, std::int64_t groups, double epsilon = 1e-5, double center = 0) {
  return {name, images_and_factors(shape, center),
          [=](const Tensors& in) { return group_norm(in[0], groups, in[1], in[2], epsilon); },
          [=](const Tensors& in) {
            const std::int64_t channels = shape[1] / groups;
            const auto same_group = [=](const Dims& at, const Dims& other) {
              return at[0] == other[0] && at[1] / channels == other[1] / channels;
            };
            return scale_naively(normalize_naively(in[0], epsilon, same_group), in[1], in[2]);
          }};
}

OpCase standardized(const char* name, const Shape& shape, double epsilon = 1e-6) {
  return {name,
          {test_values(shape, 1)},
          [=](const Tensors& in) { return standardize_weight(in[0], epsilon); },
          [=](const Tensors& in) {
            return normalize_naively(in[0], epsilon,
                                     [](const Dims& at, const Dims& other) { return at[0] == other[0]; });
          }};
}

OpBenchmark on_images(const Call& call) {
  const auto values = [](const Shape& shape, std::uint64_t stream) {
    return cast_data(test_values(shape, stream), DType::f32);
  };
  return {"(32, 64, 56, 56)",
          {values({32, 64, 56, 56}, 1), values({64}, 2), values({64}, 3)},
          call,
          0,
          2 * 4.0 * 32 * 64 * 56 * 56};
}

// clang-format off
OpRow batch_norm_row() {
  const auto f = [](const Shape& x, const Shape& weight, const Shape& statistics, bool training, double momentum) {
    return [=] { batch_norm(zeros(x), zeros(weight), zeros(weight), {zeros(statistics), zeros(statistics)}, training, momentum); };
  };
  return {.op = "batch_norm",
          .cases = []() -> std::vector<OpCase> {
            return {batch("training", {2, 2, 2, 2}, true), batch("training, far from zero", {2, 2, 3, 1}, true, 1e-5, 100),
                    batch("training, no pixels", {4, 2}, true), batch("training, one image", {1, 2, 1, 3}, true, 0.1),
                    batch("running", {2, 2, 1, 2}, false), batch("running, one value", {1, 2, 1, 1}, false, 0.1),
                    batch("running, no images", {0, 2, 3, 3}, false)};
          },
          .f32_tolerance = 4e-6,  // the denominator magnifies, as in layer_norm
          .errors = {{f({4}, {4}, {4}, true, 0.1), "batch_norm: x has shape (4) and dtype f32, expected (B, C, ...)"},
                     {f({2, 3, 0, 4}, {3}, {3}, true, 0.1), "batch_norm: x has shape (2, 3, 0, 4), expected sizes above 0"},
                     {f({2, 3, 4, 4}, {4}, {3}, true, 0.1), "batch_norm: weight has shape (4), expected (3) = channels of x"},
                     {f({2, 3, 4, 4}, {3}, {4}, true, 0.1), "running statistics have shape (4) and dtype f32, expected (3)"},
                     {f({2, 3, 4, 4}, {3}, {3}, true, 1.5), "batch_norm: momentum is 1.5, expected 0 to 1"},
                     {f({1, 3, 1, 1}, {3}, {3}, true, 0.1),
                      "batch_norm: x has shape (1, 3, 1, 1), expected more than one value per channel in training"},
                     {[] { batch_norm(zeros({2, 3}), zeros({3}, DType::f64), zeros({3}), {zeros({3}), zeros({3})}, false); },
                      "batch_norm: x is f32 and weight is f64"}},
          .benchmark = [] { return on_images([](const Tensors& in) {
            return batch_norm(in[0], in[1], in[2], running_statistics(in[0]), true);
          }); },
          .composition = [] {
            return OpComposition{images_and_factors({3, 4, 5, 2}),
                                 [](const Tensors& in) { return batch_norm(in[0], in[1], in[2], running_statistics(in[0]), true); },
                                 [](const Tensors& in) { return batch_norm_composed(in[0], in[1], in[2], 1e-5); }};
          }};
}

OpRow group_norm_row() {
  const auto f = [](const Shape& x, const Shape& weight, std::int64_t groups, double epsilon) {
    return [=] { group_norm(zeros(x), groups, zeros(weight), zeros(weight), epsilon); };
  };
  return {.op = "group_norm",
          .cases = []() -> std::vector<OpCase> {
            return {grouped("two groups", {2, 4, 1, 2}, 2), grouped("one group", {2, 3, 1, 2}, 1),
                    grouped("a group per channel", {1, 2, 2, 2}, 2), grouped("no pixels", {2, 6}, 2, 0.1),
                    grouped("far from zero", {1, 2, 3, 2}, 1, 1e-5, 100), grouped("another epsilon", {1, 4, 2, 1}, 2, 0.1),
                    grouped("no images", {0, 4, 2, 2}, 2)};
          },
          .f32_tolerance = 4e-6,
          .errors = {{f({4}, {4}, 2, 1e-5), "group_norm: x has shape (4)"},
                     {f({2, 4, 3, 3}, {4}, 3, 1e-5), "group_norm: groups is 3, expected a divisor of the 4 channels of x (2,"},
                     {f({2, 4, 3, 3}, {2}, 2, 1e-5), "group_norm: weight has shape (2), expected (4) = channels of x"},
                     {f({2, 4, 3, 3}, {4}, 2, -1), "group_norm: epsilon is -1, expected at least 0"}},
          .benchmark = [] { return on_images([](const Tensors& in) { return group_norm(in[0], 32, in[1], in[2]); }); },
          .composition = [] {
            return OpComposition{images_and_factors({3, 4, 5, 2}),
                                 [](const Tensors& in) { return group_norm(in[0], 2, in[1], in[2]); },
                                 [](const Tensors& in) { return group_norm_composed(in[0], 2, in[1], in[2]); }};
          }};
}

OpRow standardize_weight_row() {
  return {.op = "standardize_weight",
          .cases = []() -> std::vector<OpCase> {
            return {standardized("3 x 3 filters", {3, 2, 3, 3}), standardized("1 x 1 filters", {2, 5, 1, 1}),
                    standardized("a matrix", {4, 3}, 0.1)};
          },
          .f32_tolerance = 4e-6,
          .errors = {{[] { standardize_weight(zeros({4})); }, "standardize_weight: x has shape (4)"},
                     {[] { standardize_weight(zeros({4, 3}), -1); }, "standardize_weight: epsilon is -1"}},
          .benchmark = [] {
            const Tensor w = cast_data(test_values({512, 512, 3, 3}, 1), DType::f32);
            return OpBenchmark{"(512, 512, 3, 3)", {w}, [](const Tensors& in) { return standardize_weight(in[0]); }, 0,
                               2 * 4.0 * static_cast<double>(w.numel())};
          }};
}
// clang-format on

}  // namespace

std::vector<OpRow> norm_rows() { return {batch_norm_row(), group_norm_row(), standardize_weight_row()}; }

}  // namespace vitrine
