// Layers for images: gradients in float64, buffers in training, in state dicts, copies and casts,
// error messages.
#include "autograd/gradcheck.h"
#include "nn/image_layers.h"

#include <gtest/gtest.h>

#include "op_table/op_table.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

/// Gradients of call() by finite differences, for every parameter.
template <Module M>
void expect_right_gradients(M& layer, const std::function<Tensor()>& call) {
  std::uint64_t stream = 50;
  for_each_parameter(layer, [&](const std::string&, Parameter& p) {
    add_into(p.value(), test_values(p.shape(), ++stream, -0.3, 0.3));
  });
  const GradcheckReport report = check_parameter_gradients(call, parameters(layer));
  EXPECT_TRUE(report.passed) << report.message;
  EXPECT_GT(report.entries, 0);
}

TEST(ImageLayers, HaveRightGradients) {
  Initializer init(1, DType::f64);
  const Tensor x = test_values({2, 4, 3, 3}, 1);
  for (const bool with_bias : {true, false}) {
    auto layer = Conv2d::make(4, 6, 3, init, {.stride = 2, .padding = 1, .groups = 2, .with_bias = with_bias});
    expect_right_gradients(layer, [&] { return layer(x); });
  }
  auto batch_norm = BatchNorm2d::make(4, init);
  for (const bool training : {true, false}) {
    expect_right_gradients(batch_norm, [&] { return batch_norm(x, {.training = training}); });
  }
  auto group_norm = GroupNorm::make(4, init, 2);
  expect_right_gradients(group_norm, [&] { return group_norm(x); });
  EXPECT_EQ(MaxPool2d{}(x).shape(), (Shape{2, 4, 2, 2}));
}

// ceil(side / stride) places; an odd one of padding goes to the end. Places before and behind as
// TensorFlow documents SAME.
TEST(ImageLayers, SamePaddingRoundsUp) {
  struct Case {
    std::int64_t side, kernel, stride, before, behind;
  };
  for (const auto& [side, kernel, stride, before, behind] : std::initializer_list<Case>{
           {8, 7, 2, 2, 3}, {9, 7, 2, 3, 3}, {8, 3, 2, 0, 1}, {7, 3, 2, 1, 1}, {8, 1, 2, 0, 0}, {5, 4, 1, 1, 2}}) {
    const Tensor x = pad_same(ones({1, 1, side, 6}), kernel, stride, 2);
    const auto column = select(x, 3, x.size(3) / 2).to_vector<float>();
    std::vector<float> expected(static_cast<std::size_t>(before), 2);
    expected.insert(expected.end(), static_cast<std::size_t>(side), 1);
    expected.insert(expected.end(), static_cast<std::size_t>(behind), 2);
    EXPECT_EQ(column, expected) << side << " " << kernel << " " << stride;
  }
  EXPECT_TRUE(contains(error_of([] { pad_same(ones({2, 3, 4}), 3, 2); }), "pad_same: shape (2, 3, 4)"));
}

TEST(ImageLayers, StandardisedConvolutionsIgnoreScaleAndOffsetOfTheirFilters) {
  Initializer init(1, DType::f64);
  auto layer = StdConv2d::make(4, 6, 3, init, 2);
  const Tensor x = test_values({2, 4, 5, 4}, 1);
  const Tensor y = layer(x);
  EXPECT_EQ(y.shape(), (Shape{2, 6, 3, 2}));
  layer.weight = Parameter(layer.weight.value() * 3 + 5);
  EXPECT_TRUE(relative_error(layer(x), y) <= 1e-6);  // epsilon breaks it a little
  for (const std::int64_t stride : {1, 2}) {
    layer.stride = stride;
    expect_right_gradients(layer, [&] { return layer(x); });
  }
}

TEST(ImageLayers, BatchNormCountsAndRemembersInTrainingOnly) {
  Initializer init(1);
  const auto layer = BatchNorm2d::make(2, init);
  const Tensor x = cast_data(test_values({4, 2, 3, 3}, 1, 1, 3), DType::f32);
  layer(x, {});
  EXPECT_EQ(layer.num_batches_tracked.value().item(), 0);
  expect_near(cast_data(layer.running_mean.value(), DType::f64), {0, 0});
  layer(x, {.training = true});
  layer(x, {.training = true});
  EXPECT_EQ(layer.num_batches_tracked.value().item(), 2);
  const Tensor expected = mean(x, {0, 2, 3}) * 0.19;  // 0.1, then 0.9 0.1 + 0.1
  EXPECT_TRUE(relative_error(layer.running_mean.value(), expected) <= 1e-6);
}

TEST(ImageLayers, BuffersAreInTheStateDictButNotAmongTheParameters) {
  Initializer init(1);
  auto source = BatchNorm2d::make(2, init), target = BatchNorm2d::make(2, init);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : state_dict(source)) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}));
  EXPECT_EQ(parameters(source).size(), 2u);
  EXPECT_EQ(parameter_count(source), 4);

  source(cast_data(test_values({4, 2, 3, 3}, 1), DType::f32), {.training = true});
  EXPECT_TRUE(load_state_dict(target, state_dict(source)).clean());
  EXPECT_EQ(target.running_var.value().to_vector<float>(), source.running_var.value().to_vector<float>());
  EXPECT_EQ(target.num_batches_tracked.value().item(), 1);
  StateDict incomplete = state_dict(source);
  incomplete.erase(incomplete.begin() + 2);
  EXPECT_TRUE(contains(error_of([&] { load_state_dict(target, incomplete); }), "missing running_mean"));
}

TEST(ImageLayers, BuffersAreCopiedAndCastWithTheModule) {
  Initializer init(1);
  const auto layer = BatchNorm2d::make(2, init);
  const auto copy = deep_copy(layer);
  layer(cast_data(test_values({4, 2, 3, 3}, 1), DType::f32), {.training = true});
  EXPECT_EQ(copy.num_batches_tracked.value().item(), 0);
  EXPECT_EQ(copy.running_var.value().to_vector<float>(), (std::vector<float>{1, 1}));

  auto converted = deep_copy(layer);
  cast_to(converted, DType::bf16);
  EXPECT_EQ(converted.weight.value().dtype(), DType::bf16);
  EXPECT_EQ(converted.running_mean.value().dtype(), DType::f32);
  cast_to(converted, DType::f64);
  EXPECT_EQ(converted.running_mean.value().dtype(), DType::f64);
  EXPECT_EQ(converted.num_batches_tracked.value().dtype(), DType::i64);
}

TEST(ImageLayers, MixedPrecisionKeepsStatisticsInF32) {
  Initializer init(1);
  const auto layer = BatchNorm2d::make(2, init);
  const auto conv = Conv2d::make(2, 2, 3, init, {.padding = 1});
  const Tensor x = cast_data(test_values({4, 2, 3, 3}, 1), DType::bf16);
  const Tensor y = layer(conv(x), {.training = true});
  EXPECT_EQ(y.dtype(), DType::bf16);
  EXPECT_EQ(layer.running_mean.value().dtype(), DType::f32);
}

TEST(ImageLayers, ErrorsSayWhatIsExpected) {
  Initializer init(1);
  EXPECT_EQ(error_of([&] { Conv2d::make(4, 6, 3, init, {.groups = 3}); }),
            "Conv2d: 4 -> 6 channels with kernel 3 in 3 groups, expected sizes above 0 and whole groups");
  EXPECT_EQ(error_of([&] { GroupNorm::make(6, init, 4); }), "GroupNorm: 6 channels do not divide into 4 groups");
  EXPECT_EQ(error_of([&] { BatchNorm2d::make(0, init); }), "BatchNorm2d: channels are 0, expected more than 0");
}

}  // namespace
}  // namespace vitrine
