// What the rows of the op table are too small to reach: convolutions of several blocks and parts,
// ties and NaN in pooling, running statistics.
#include <gtest/gtest.h>

#include <cmath>

#include "op_table/op_table.h"
#include "ops/composed.h"
#include "ops/ops.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

// ---- Convolution ----

struct Convolution {
  const char* what;
  Shape x, weight;
  std::int64_t stride, padding, groups;
};

/// The patches of x as rows, (B, C, H, W) -> (B, H' W', C kh kw), by views of the padded images
/// alone.
Tensor patches(const Tensor& x, const Convolution& c) {
  const Tensor padded = pad(x, {0, 0, c.padding, c.padding}, {0, 0, c.padding, c.padding});
  const std::int64_t rows = (padded.size(2) - c.weight[2]) / c.stride + 1;
  const std::int64_t columns = (padded.size(3) - c.weight[3]) / c.stride + 1;
  const Strides s = padded.strides();
  const Tensor view = padded.view_as({x.size(0), rows, columns, x.size(1), c.weight[2], c.weight[3]},
                                     {s[0], s[2] * c.stride, s[3] * c.stride, s[1], s[2], s[3]}, padded.offset());
  return reshape(view, {x.size(0), rows * columns, x.size(1) * c.weight[2] * c.weight[3]});
}

/// The same convolution as a product of matrices for each group.
Tensor convolve_by_matmul(const Tensor& x, const Tensor& weight, const Convolution& c) {
  const std::int64_t depth = weight.size(1), filters = weight.size(0) / c.groups;
  std::vector<Tensor> parts;
  for (std::int64_t g = 0; g < c.groups; ++g) {
    const Tensor rows = patches(contiguous(slice(x, 1, g * depth, (g + 1) * depth)), c);
    const Tensor matrix = reshape(slice(weight, 0, g * filters, (g + 1) * filters), {filters, rows.size(2)});
    parts.push_back(transpose(matmul(rows, transpose(matrix))));  // (B, filters, H' W')
  }
  return concat(parts, 1);
}

class LargeConvolution : public testing::TestWithParam<Convolution> {};

TEST_P(LargeConvolution, AgreesWithAProductOfPatches) {
  const Convolution& c = GetParam();
  const Tensor x = test_values(c.x, 1), weight = test_values(c.weight, 2, -1, 1);
  Tape tape;
  const Tensor x_leaf = tape.watch(x), weight_leaf = tape.watch(weight);
  const Tensor y = conv2d(x_leaf, weight_leaf, std::nullopt, c.stride, c.padding, c.groups);
  const Tensor dy = test_values(y.shape(), 3);
  const Gradients gradients = tape.backward(y, dy);

  const Tensor expected = convolve_by_matmul(x, weight, c);
  EXPECT_TRUE(relative_error(reshape(y.detach(), expected.shape()), expected) <= 1e-13) << c.what;
  // y is linear: sum(dy y(dx')) = sum(dx dx') for any dx', and the same for the weight.
  const auto dot = [](const Tensor& a, const Tensor& b) { return sum(a * b).item(); };
  const auto convolve = [&](const Tensor& images, const Tensor& filters) {
    return reshape(convolve_by_matmul(images, filters, c), y.shape());
  };
  for (const std::uint64_t stream : {4u, 5u}) {
    const Tensor other_x = test_values(c.x, stream), other_weight = test_values(c.weight, stream + 2);
    const double by_x = dot(dy, convolve(other_x, weight)), by_weight = dot(dy, convolve(x, other_weight));
    const double scale = std::sqrt(dot(dy, dy) * dot(y.detach(), y.detach()));
    EXPECT_TRUE(std::abs(dot(gradients[x_leaf], other_x) - by_x) <= 1e-12 * scale) << c.what;
    EXPECT_TRUE(std::abs(dot(gradients[weight_leaf], other_weight) - by_weight) <= 1e-12 * scale) << c.what;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, LargeConvolution,
    testing::Values(Convolution{"several blocks of rows, cut inside of images", {3, 5, 40, 37}, {6, 5, 3, 3}, 1, 1, 1},
                    Convolution{"small planes, many images", {37, 8, 5, 5}, {4, 8, 3, 3}, 2, 1, 1},
                    Convolution{"pointwise in place", {3, 6, 70, 70}, {4, 6, 1, 1}, 1, 0, 1},
                    Convolution{"pointwise in place, groups", {2, 6, 20, 20}, {4, 3, 1, 1}, 1, 0, 2},
                    Convolution{"depthwise", {5, 4, 50, 30}, {4, 1, 5, 5}, 1, 2, 4},
                    Convolution{"ResNet's first", {2, 3, 64, 64}, {8, 3, 7, 7}, 2, 3, 1},
                    Convolution{"more images than parts", {35, 2, 9, 9}, {6, 1, 3, 3}, 1, 1, 2}),
    [](const auto& size) { return std::to_string(size.index); });

// ---- Pooling ----

TEST(MaxPool2d, GivesTheGradientToTheFirstOfEqualNumbers) {
  Tape tape;
  const Tensor x = tape.watch(from_values<double>({1, 3, 3, 2, 3, 0, 3, 1, 1}, {1, 1, 3, 3}));
  const Tensor y = max_pool2d(x, 3, 1);
  expect_near(tape.backward(y, full({1, 1, 1, 1}, 5, DType::f64))[x], {0, 5, 0, 0, 0, 0, 0, 0, 0});
}

TEST(MaxPool2d, KeepsNaNAndMinusInfinity) {
  const Tensor x = from_values<float>({1, NAN, 2, 3, -INFINITY, -INFINITY, -INFINITY, -INFINITY}, {1, 2, 2, 2});
  const auto y = max_pool2d(x, 2, 2).to_vector<float>();
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], -INFINITY);
}

// ---- Running statistics ----

TEST(BatchNorm, TrainingMovesTheRunningStatistics) {
  const Tensor x =
      from_values<double>({1, 2, 3, 6, 10, 10, 10, 14}, {2, 2, 2});  // channel 0: 1 2 10 10, channel 1: 3 6 10 14
  const RunningStatistics running{full({2}, 1, DType::f64), full({2}, 2, DType::f64)};
  batch_norm(x, ones({2}, DType::f64), zeros({2}, DType::f64), running, true, 0.25);
  expect_near(running.mean, {0.75 + 0.25 * 5.75, 0.75 + 0.25 * 8.25});
  // Unbiased: 72.75 / 3 and 68.75 / 3.
  expect_near(running.variance, {1.5 + 0.25 * 24.25, 1.5 + 0.25 * 68.75 / 3});
  batch_norm(x, ones({2}, DType::f64), zeros({2}, DType::f64), running, false);
  expect_near(running.mean, {0.75 + 0.25 * 5.75, 0.75 + 0.25 * 8.25});
}

TEST(BatchNorm, StatisticsOfLargeNumbersAreExact) {
  // Mean 2^20: the square of a number of this size has no digits left for a variance of 1 in f32.
  Tensor x = cast_data(test_values({16, 3, 8, 8}, 1, -1, 1), DType::f32) + 1048576.0;
  const RunningStatistics running{zeros({3}), zeros({3})};
  const Tensor y = batch_norm(x, ones({3}), zeros({3}), running, true, 1, 0);
  const Tensor exact = cast_data(x, DType::f64);
  const Tensor expected = batch_norm_composed(exact, ones({3}, DType::f64), zeros({3}, DType::f64), 0);
  EXPECT_TRUE(relative_error(y, expected) <= 1e-5);
  EXPECT_TRUE(relative_error(running.variance, var(exact, {0, 2, 3})) <= 1e-5);
}

}  // namespace
}  // namespace vitrine
