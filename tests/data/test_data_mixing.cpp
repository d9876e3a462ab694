// Tests of mixup, CutMix and label smoothing: which sample meets which, by how much, and that
// targets say the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "data/augment/mixing.h"
#include "tests/data/data_fixtures.h"

namespace vitrine::testing {
namespace {

constexpr int height = 12, width = 16;
constexpr std::int64_t classes = 5;

/// Sample i has the value i everywhere and label i % 5, so a mixed value tells the shares.
Batch numbered_batch(std::int64_t count, std::int64_t number = 0, std::int64_t epoch = 0) {
  Batch batch;
  batch.images = empty({count, 3, height, width});
  batch.labels = empty({count}, DType::i64);
  batch.epoch = epoch;
  batch.number = number;
  float* image = batch.images.data<float>();
  for (std::int64_t i = 0; i < count; ++i) {
    std::fill_n(image + i * 3 * height * width, 3 * height * width, static_cast<float>(i));
    batch.labels.data<std::int64_t>()[i] = i % classes;
    batch.indices.push_back(i);
  }
  return batch;
}

/// The share of its own that sample i kept, from the mean of its values; the partner is sample B -
/// 1 - i.
double share_by_image(const Batch& batch, std::int64_t i) {
  const std::vector<float> values = batch.images.to_vector<float>();
  const std::int64_t size = 3 * height * width;
  double sum = 0;
  for (std::int64_t k = 0; k < size; ++k) sum += values[static_cast<std::size_t>(i * size + k)];
  const double own = static_cast<double>(i), other = static_cast<double>(batch.size() - 1 - i);
  return (sum / static_cast<double>(size) - other) / (own - other);
}

/// The same from the targets; nothing where both samples have the same label.
std::optional<double> share_by_target(const Batch& batch, std::int64_t i, double smoothing) {
  const std::int64_t own = i % classes, other = (batch.size() - 1 - i) % classes;
  if (own == other) return std::nullopt;
  const std::vector<float> targets = batch.targets.to_vector<float>();
  const double off = smoothing / static_cast<double>(classes);
  return (targets[static_cast<std::size_t>(i * classes + own)] - off) / (1 - smoothing);
}

void expect_targets_match_images(const Batch& batch, double smoothing) {
  for (std::int64_t i = 0; i < batch.size(); ++i) {
    const std::optional<double> share = share_by_target(batch, i, smoothing);
    EXPECT_TRUE(!share || std::abs(*share - share_by_image(batch, i)) <= 1e-5) << i;
    const std::vector<float> targets = batch.targets.to_vector<float>();
    double sum = 0;
    for (std::int64_t k = 0; k < classes; ++k) sum += targets[static_cast<std::size_t>(i * classes + k)];
    EXPECT_TRUE(std::abs(sum - 1) <= 1e-6);
  }
}

TEST(Mixing, SmoothTargets) {
  const std::vector<float> targets = smooth_targets(from_values<std::int64_t>({2, 0}, {2}), 4, 0.1).to_vector<float>();
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(std::abs(targets[i] - (i == 2 || i == 4 ? 0.925 : 0.025)) <= 1e-7) << i;
  }
  expect_parts(error_of([] { smooth_targets(from_values<std::int64_t>({4}, {1}), 4, 0.1); }), {"label 4", "0 to 3"});
}

TEST(Mixing, MixupBlendsEveryValueByOneLambda) {
  const Mixing mixing{.mixup_alpha = 0.8, .cutmix_alpha = 0};
  double lowest = 1, highest = 0;
  for (std::int64_t number = 0; number < 50; ++number) {
    Batch batch = numbered_batch(6, number);
    apply_mixing(mixing, classes, 1, batch);
    expect_targets_match_images(batch, 0.1);
    const double lambda = share_by_image(batch, 0);
    for (std::int64_t i = 1; i < 6; ++i) EXPECT_TRUE(std::abs(share_by_image(batch, i) - lambda) <= 1e-5);
    const std::vector<float> values = batch.images.to_vector<float>();
    for (std::size_t k = 1; k < 3 * height * width; ++k) EXPECT_EQ(values[k], values[0]);
    lowest = std::min(lowest, lambda);
    highest = std::max(highest, lambda);
  }
  EXPECT_TRUE(lowest < 0.2 && highest > 0.8);
}

TEST(Mixing, CutMixReplacesOneBoxAndLambdaIsTheAreaLeft) {
  const Mixing mixing{.mixup_alpha = 0, .cutmix_alpha = 1, .smoothing = 0};
  for (std::int64_t number = 0; number < 50; ++number) {
    Batch batch = numbered_batch(4, number);
    apply_mixing(mixing, classes, 1, batch);
    expect_targets_match_images(batch, 0);
    const std::vector<float> values = batch.images.to_vector<float>();
    int top = height, left = width, bottom = -1, right = -1, count = 0;
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const float value = values[static_cast<std::size_t>(y * width + x)];
        EXPECT_TRUE(value == 0.0f || value == 3.0f);
        for (int c = 1; c < 3; ++c) EXPECT_EQ(values[static_cast<std::size_t>((c * height + y) * width + x)], value);
        if (value == 0.0f) continue;
        ++count;
        top = std::min(top, y), bottom = std::max(bottom, y), left = std::min(left, x), right = std::max(right, x);
      }
    }
    EXPECT_EQ(count, count == 0 ? 0 : (bottom - top + 1) * (right - left + 1)) << "not a box";
  }
}

TEST(Mixing, CutMixBoxHasTheSidesOfTheFirstLambda) {
  const Mixing mixing{.mixup_alpha = 0, .cutmix_alpha = 1};
  int whole = 0;
  for (std::uint64_t stream = 0; stream < 200; ++stream) {
    RandomSequence random(1, Purpose::test, stream), again(1, Purpose::test, stream);
    const MixingDraw draw = draw_mixing(mixing, 60, 90, random);
    again.uniform();  // whether to mix at all
    const double side = std::sqrt(1 - again.beta(1, 1));
    const int rows = static_cast<int>(60 * side), columns = static_cast<int>(90 * side);
    EXPECT_LE(draw.bottom - draw.top, rows);
    EXPECT_LE(draw.right - draw.left, columns);
    if (draw.top == 0 || draw.left == 0 || draw.bottom == 60 || draw.right == 90) continue;  // clipped
    EXPECT_EQ(draw.bottom - draw.top, rows);
    EXPECT_EQ(draw.right - draw.left, columns);
    ++whole;
  }
  EXPECT_GE(whole, 20);
}

// Two gamma numbers may both be too small for a double.
TEST(Mixing, ATinyAlphaGivesNumbers) {
  const Mixing mixing{.mixup_alpha = 1e-3, .cutmix_alpha = 0};
  int ones = 0;
  for (std::uint64_t stream = 0; stream < 400; ++stream) {
    RandomSequence random(1, Purpose::test, stream);
    const double lambda = draw_mixing(mixing, 32, 32, random).lambda;
    EXPECT_TRUE(lambda >= 0 && lambda <= 1) << lambda;
    ones += lambda > 0.5;
  }
  EXPECT_TRUE(ones > 150 && ones < 250) << ones;
}

TEST(Mixing, DrawsFollowTheProbabilities) {
  const Mixing mixing{.probability = 0.6, .switch_probability = 0.25};
  RandomSequence random(4, Purpose::test);
  int cutmix = 0, mixup = 0;
  double lambda = 0;
  for (int i = 0; i < 4000; ++i) {
    const MixingDraw draw = draw_mixing(mixing, 32, 32, random);
    cutmix += draw.cutmix;
    mixup += !draw.cutmix && draw.lambda < 1;
    if (!draw.cutmix && draw.lambda < 1) lambda += draw.lambda;
    EXPECT_TRUE(draw.lambda >= 0 && draw.lambda <= 1);
    EXPECT_TRUE(draw.top >= 0 && draw.bottom <= 32 && draw.top <= draw.bottom);
    const double outside = 1 - (draw.bottom - draw.top) * (draw.right - draw.left) / 1024.0;
    EXPECT_TRUE(!draw.cutmix || std::abs(draw.lambda - outside) <= 1e-12);
  }
  EXPECT_TRUE(std::abs(cutmix / 4000.0 - 0.15) <= 0.03) << cutmix;
  EXPECT_TRUE(std::abs(mixup / 4000.0 - 0.45) <= 0.04) << mixup;
  EXPECT_TRUE(std::abs(lambda / mixup - 0.5) <= 0.03);
}

TEST(Mixing, PairsShareALambdaAndElementsDoNot) {
  for (const char* name : {"pair", "elem"}) {
    const Mixing mixing{.mixup_alpha = 1, .cutmix_alpha = 0, .mode = mixing_mode_from_name(name)};
    Batch batch = numbered_batch(8);
    apply_mixing(mixing, classes, 1, batch);
    expect_targets_match_images(batch, 0.1);
    int different = 0;
    for (std::int64_t i = 0; i < 4; ++i) {
      different += std::abs(share_by_image(batch, i) - share_by_image(batch, 7 - i)) > 1e-4;
    }
    EXPECT_EQ(different, std::string(name) == "pair" ? 0 : 4);
    EXPECT_TRUE(std::abs(share_by_image(batch, 0) - share_by_image(batch, 1)) > 1e-4);
  }
  expect_parts(error_of([] { mixing_mode_from_name("each"); }), {"each", "batch, pair or elem"});
}

TEST(Mixing, StopsAtItsLastEpochButKeepsSmoothing) {
  Mixing mixing;
  mixing.off_epoch = 3;
  Batch before = numbered_batch(4, 0, 2), after = numbered_batch(3, 0, 3);
  apply_mixing(mixing, classes, 1, before);
  apply_mixing(mixing, classes, 1, after);
  EXPECT_NE(before.images.to_vector<float>(), numbered_batch(4).images.to_vector<float>());
  EXPECT_EQ(after.images.to_vector<float>(), numbered_batch(3).images.to_vector<float>());
  EXPECT_EQ(after.targets.to_vector<float>(), smooth_targets(after.labels, classes, 0.1).to_vector<float>());
}

TEST(Mixing, RefusesOddBatchesAndBadFields) {
  Batch odd = numbered_batch(5, 7);
  expect_parts(error_of([&] { apply_mixing({}, classes, 1, odd); }), {"batch 7", "5 samples", "even"});
  expect_parts(error_of([] { Mixing{.mixup_alpha = -1}.check(); }), {"mixup is -1"});
  expect_parts(error_of([] { Mixing{.probability = 2}.check(); }), {"probability is 2"});
  expect_parts(error_of([] { Mixing{.smoothing = 1}.check(); }), {"smoothing is 1"});
}

}  // namespace
}  // namespace vitrine::testing
