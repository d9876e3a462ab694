// Tests of the augmentation policies: the mini-language, which operations are drawn how often, and the magnitudes as
// published.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "data/augment/policy.h"
#include "tests/data/data_fixtures.h"

namespace vitrine::testing {
namespace {

/// What a policy did to many images, by operation.
struct Drawn {
  std::map<ImageOp, std::vector<double>> amounts;
  std::vector<std::size_t> steps;  // of each image

  std::size_t count(ImageOp op) const { return amounts.contains(op) ? amounts.at(op).size() : 0; }
  std::set<double> values(ImageOp op) const {
    return amounts.contains(op) ? std::set<double>(amounts.at(op).begin(), amounts.at(op).end()) : std::set<double>{};
  }
};

constexpr AugmentSurroundings surroundings{.height = 200, .width = 100};

Drawn draw_many(std::string_view name, int images = 6000) {
  const AugmentPolicy policy = AugmentPolicy::parse(name);
  Drawn drawn;
  for (int i = 0; i < images; ++i) {
    RandomSequence random(5, Purpose::test, static_cast<std::uint64_t>(i));
    const auto steps = policy.draw(surroundings, random);
    drawn.steps.push_back(steps.size());
    for (const AugmentStep& step : steps) drawn.amounts[step.op].push_back(step.amount);
  }
  return drawn;
}

/// Within five standard deviations of a binomial count.
void expect_share(std::size_t count, double trials, double share, const std::string& what) {
  const double deviation = std::sqrt(trials * share * (1 - share));
  EXPECT_TRUE(std::abs(static_cast<double>(count) - trials * share) <= 5 * deviation + 1e-9)
      << what << ": " << count << " of " << trials << ", expected a share of " << share;
}

/// The amounts of an op are these, and each about as frequent as the others.
void expect_amounts(const Drawn& drawn, ImageOp op, const std::vector<double>& expected) {
  ASSERT_TRUE(drawn.amounts.contains(op)) << name_of(op);
  std::map<double, std::size_t> found;
  for (const double amount : drawn.amounts.at(op)) {
    bool known = false;
    for (const double value : expected) {
      if (std::abs(amount - value) > 1e-9) continue;
      known = true;
      ++found[value];
    }
    EXPECT_TRUE(known) << name_of(op) << ' ' << amount;
  }
  for (const double value : expected) {
    expect_share(found[value], static_cast<double>(drawn.count(op)), 1.0 / static_cast<double>(expected.size()),
                 std::string(name_of(op)) + " " + std::to_string(value));
  }
}

TEST(AugmentPolicy, TimmRandAugmentIncreasingHasThePublishedMagnitudes) {
  const Drawn drawn = draw_many("rand-m9-inc1", 20000);
  expect_amounts(drawn, ImageOp::rotate, {-27, 27});
  expect_amounts(drawn, ImageOp::posterize, {1});
  expect_amounts(drawn, ImageOp::solarize, {26});
  expect_amounts(drawn, ImageOp::solarize_add, {99});
  for (const ImageOp op : {ImageOp::color, ImageOp::contrast, ImageOp::brightness, ImageOp::sharpness}) {
    expect_amounts(drawn, op, {0.19, 1.81});
  }
  for (const ImageOp op : {ImageOp::shear_x, ImageOp::shear_y}) expect_amounts(drawn, op, {-0.27, 0.27});
  expect_amounts(drawn, ImageOp::translate_x, {-40.5, 40.5});
  expect_amounts(drawn, ImageOp::translate_y, {-81, 81});
  EXPECT_EQ(drawn.amounts.size(), 15u);
  for (const auto& [op, amounts] : drawn.amounts) {  // 2 of 15 with replacement, each with probability 1/2
    expect_share(amounts.size(), 40000, 0.5 / 15, std::string(name_of(op)));
  }
  for (std::size_t steps = 0; steps <= 2; ++steps) {
    expect_share(static_cast<std::size_t>(std::ranges::count(drawn.steps, steps)), 20000, steps == 1 ? 0.5 : 0.25,
                 std::to_string(steps) + " steps");
  }
}

TEST(AugmentPolicy, TimmRandAugmentWithoutIncHasTheOriginalMagnitudes) {
  const Drawn drawn = draw_many("rand-m9-n3-p1");
  expect_amounts(drawn, ImageOp::posterize, {3});
  expect_amounts(drawn, ImageOp::solarize, {230});
  expect_amounts(drawn, ImageOp::color, {1.72});
  for (const std::size_t steps : drawn.steps) EXPECT_EQ(steps, 3u);
  expect_amounts(draw_many("rand-p1-n1"), ImageOp::rotate, {-30, 30});       // m defaults to 10
  expect_amounts(draw_many("rand-m10-inc1"), ImageOp::posterize, {0});       // black
  expect_amounts(draw_many("rand-m20"), ImageOp::rotate, {-30, 30});         // bounded
  expect_amounts(draw_many("rand-m20-mmax30"), ImageOp::rotate, {-60, 60});  // not bounded
  expect_amounts(draw_many("rand-m30-mmax30-inc1"), ImageOp::color, {0.1, 3.7});
  EXPECT_EQ(draw_many("rand-p0").amounts.size(), 0u);
}

TEST(AugmentPolicy, MagnitudesVaryByTheirDeviationAndStayInBounds) {
  double sum = 0, squares = 0;
  int bounded = 0;
  const Drawn drawn = draw_many("rand-m9-mstd0.5-inc1-n15", 3000);
  for (const double degrees : drawn.amounts.at(ImageOp::rotate)) {
    const double magnitude = std::abs(degrees) / 3;
    ASSERT_TRUE(magnitude >= 0 && magnitude <= 10);
    if (magnitude == 10) ++bounded;
    sum += magnitude;
    squares += magnitude * magnitude;
  }
  const auto count = static_cast<double>(drawn.count(ImageOp::rotate));
  const double mean = sum / count, deviation = std::sqrt(squares / count - mean * mean);
  EXPECT_TRUE(std::abs(mean - 9) <= 0.08) << mean;
  EXPECT_TRUE(std::abs(deviation - 0.49) <= 0.06) << deviation;  // 0.5 but for the bound
  expect_share(static_cast<std::size_t>(bounded), count, 0.02275, "beyond two deviations");

  double largest = 0, smallest = 10;
  const Drawn uniform = draw_many("rand-m8-mstd101", 20000);
  for (const double degrees : uniform.amounts.at(ImageOp::rotate)) {
    largest = std::max(largest, std::abs(degrees) / 3);
    smallest = std::min(smallest, std::abs(degrees) / 3);
  }
  EXPECT_TRUE(largest <= 8 && largest > 7.8 && smallest < 0.2) << smallest << ' ' << largest;
  EXPECT_GT(draw_many("original-mstd0.5").values(ImageOp::rotate).size(), 100u);
}

TEST(AugmentPolicy, TorchvisionsRandAugmentIsThreeTimesWeaker) {
  const Drawn drawn = draw_many("ra", 20000);
  expect_amounts(drawn, ImageOp::rotate, {-9, 9});
  expect_amounts(drawn, ImageOp::posterize, {7});
  expect_amounts(drawn, ImageOp::solarize, {178.5});
  expect_amounts(drawn, ImageOp::contrast, {0.73, 1.27});
  expect_amounts(drawn, ImageOp::shear_y, {-0.09, 0.09});
  expect_amounts(drawn, ImageOp::translate_x, {-13, 13});  // int(0.136 * 100)
  expect_amounts(drawn, ImageOp::translate_y, {-27, 27});
  EXPECT_EQ(drawn.amounts.size(), 14u);
  EXPECT_EQ(drawn.count(ImageOp::invert) + drawn.count(ImageOp::solarize_add), 0u);
  for (const auto& [op, amounts] : drawn.amounts)
    expect_share(amounts.size(), 40000, 1.0 / 14, std::string(name_of(op)));
  expect_amounts(draw_many("ra-m30-n1"), ImageOp::rotate, {-30, 30});
  for (const std::size_t steps : draw_many("ra-n4", 100).steps) EXPECT_EQ(steps, 4u);
}

TEST(AugmentPolicy, TrivialAugmentWideDrawsOneOperationOfAnyMagnitude) {
  const Drawn drawn = draw_many("ta_wide", 60000);
  EXPECT_EQ(drawn.amounts.size(), 14u);
  for (const auto& [op, amounts] : drawn.amounts)
    expect_share(amounts.size(), 60000, 1.0 / 14, std::string(name_of(op)));
  for (const std::size_t steps : drawn.steps) EXPECT_EQ(steps, 1u);
  const auto expect_range = [&](ImageOp op, double low, double high, std::size_t values) {
    const std::set<double> found = drawn.values(op);
    EXPECT_EQ(found.size(), values) << name_of(op);
    EXPECT_TRUE(std::abs(*found.begin() - low) <= 1e-9 && std::abs(*found.rbegin() - high) <= 1e-9)
        << name_of(op) << ' ' << *found.begin() << ' ' << *found.rbegin();
  };
  expect_range(ImageOp::rotate, -135, 135, 61);
  expect_range(ImageOp::shear_x, -0.99, 0.99, 61);
  expect_range(ImageOp::translate_y, -32, 32, 61);
  expect_range(ImageOp::color, 0.01, 1.99, 61);
  expect_range(ImageOp::posterize, 2, 8, 7);
  expect_range(ImageOp::solarize, 0, 255, 31);
}

TEST(AugmentPolicy, AutoAugmentAppliesPairs) {
  const Drawn cifar = draw_many("autoaugment-cifar10", 50000);
  expect_amounts(cifar, ImageOp::rotate, {-30.0 * 2 / 9, 30.0 * 2 / 9});  // once in 25 pairs, with probability 0.7
  expect_share(cifar.count(ImageOp::rotate), 50000, 0.7 / 25, "rotate");
  expect_share(cifar.count(ImageOp::invert), 50000, 0.2 / 25, "invert");
  expect_amounts(cifar, ImageOp::posterize, {8 - 3});  // round(7 / 2.25)
  const std::set<double> solarize = cifar.values(ImageOp::solarize);
  EXPECT_EQ(solarize.size(), 4u);  // magnitudes 2, 3, 5 and 8
  EXPECT_TRUE(std::abs(*solarize.rbegin() - (255 - 255 * 2 / 9.0)) <= 1e-9);
  const std::set<double> shift = cifar.values(ImageOp::translate_x);
  EXPECT_EQ(*shift.rbegin(), 45);  // int(150 / 331 * 100)

  const Drawn original = draw_many("original", 50000), vision = draw_many("autoaugment", 50000);
  EXPECT_EQ(original.values(ImageOp::posterize), (std::set<double>{6, 7}));  // 4 + int(0.4 m) for m = 5, 6, 7, 8
  EXPECT_EQ(vision.values(ImageOp::posterize), (std::set<double>{4, 5, 6}));
  EXPECT_EQ(draw_many("originalr").values(ImageOp::posterize), (std::set<double>{1, 2}));
  EXPECT_EQ(draw_many("v0").values(ImageOp::posterize), (std::set<double>{0, 2}));
  EXPECT_EQ(draw_many("v0r").values(ImageOp::posterize), (std::set<double>{2, 4}));
  EXPECT_EQ(draw_many("v0").values(ImageOp::translate_y).size(), 2u);
  for (const ImageOp op : {ImageOp::equalize, ImageOp::rotate, ImageOp::sharpness}) {  // the same table
    const double share = op == ImageOp::equalize ? 11.2 / 25 : op == ImageOp::rotate ? 3.6 / 25 : 0.4 / 25;
    expect_share(original.count(op), 50000, share, std::string(name_of(op)));
    expect_share(vision.count(op), 50000, share, std::string(name_of(op)));
  }
}

TEST(AugmentPolicy, ThreeAugmentAppliesExactlyOneOfThree) {
  const Drawn drawn = draw_many("3a", 9000);
  EXPECT_EQ(drawn.amounts.size(), 3u);
  for (const std::size_t steps : drawn.steps) EXPECT_EQ(steps, 1u);
  for (const auto& [op, amounts] : drawn.amounts) expect_share(amounts.size(), 9000, 1.0 / 3, std::string(name_of(op)));
  expect_amounts(drawn, ImageOp::solarize, {128});
  const std::set<double> radii = drawn.values(ImageOp::blur);
  EXPECT_TRUE(*radii.begin() >= 0.1 && *radii.begin() < 0.12 && *radii.rbegin() > 1.98 && *radii.rbegin() <= 2);
  EXPECT_TRUE(AugmentPolicy::parse("3a").keeps_color_jitter());
  EXPECT_FALSE(AugmentPolicy::parse("rand").keeps_color_jitter());
}

TEST(AugmentPolicy, ResamplingAndFillFollowTheFamily) {
  AugmentSurroundings around{.height = 8, .width = 8, .resampling = Resampling::bilinear, .fill = {1, 2, 3}};
  const auto resamplings = [&](std::string_view name) {
    std::map<Resampling, int> counts;
    for (std::uint64_t stream = 0; stream < 400; ++stream) {
      RandomSequence random(1, Purpose::test, stream);
      for (const AugmentStep& step : AugmentPolicy::parse(name).draw(around, random)) {
        ++counts[step.resampling];
        EXPECT_EQ(step.fill, name[0] == 't' ? (Color{0, 0, 0}) : (Color{1, 2, 3}));
      }
    }
    return counts;
  };
  EXPECT_EQ(resamplings("rand-p1"), (std::map<Resampling, int>{{Resampling::bilinear, 800}}));
  EXPECT_EQ(resamplings("ta_wide"), (std::map<Resampling, int>{{Resampling::nearest, 400}}));
  around.random_resampling = true;
  const auto mixed = resamplings("rand-p1");
  ASSERT_EQ(mixed.size(), 2u);
  EXPECT_TRUE(mixed.at(Resampling::bicubic) >= 330 && mixed.at(Resampling::bilinear) >= 330);
}

TEST(AugmentPolicy, RefusesWhatItDoesNotKnow) {
  EXPECT_TRUE(AugmentPolicy::parse("").empty());
  const auto message = [](std::string_view name) { return error_of([&] { AugmentPolicy::parse(name); }); };
  for (const char* name : {"augmix-m5", "randaugment", "RAND", "rand-x9", "rand-w0", "rand-", "rand--m9", "original-m9",
                           "autoaugment-svhn", "autoaugment-cifar10-m3", "ta_wide-m9", "ra-p1", "-m9"}) {
    expect_parts(message(name), {std::string("\"") + name + "\"", "rand[-mN]", "ta_wide", "autoaugment-cifar10"});
  }
  expect_parts(message("rand-m"), {"\"m\"", "a number from 0 to 100"});
  expect_parts(message("rand-m-3"), {"\"m\""});
  expect_parts(message("rand-m9x"), {"\"m9x\""});
  expect_parts(message("rand-p1.5"), {"\"p1.5\"", "0 to 1"});
  expect_parts(message("rand-n2.5"), {"\"n2.5\"", "an integer"});
  expect_parts(message("rand-n0"), {"\"n0\""});
  expect_parts(message("rand-m9-m8"), {"m is set twice"});
  expect_parts(message("ra-m31"), {"\"m31\"", "0 to 30"});
}

}  // namespace
}  // namespace vitrine::testing
