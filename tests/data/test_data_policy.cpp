// Tests of the augmentation policies: the mini-language, which operations are drawn how often, and
// the magnitudes as published.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>
#include <set>

#include "data/augment/policy.h"
#include "tests/data/data_fixtures.h"

namespace vitrine::testing {
namespace {

/// What a policy did to many images, by operation.
struct Drawn {
  std::map<ImageOp, std::vector<double>> magnitudes;
  std::vector<std::size_t> steps;  // of each image

  std::size_t count(ImageOp op) const { return magnitudes.contains(op) ? magnitudes.at(op).size() : 0; }
  std::set<double> values(ImageOp op) const {
    return magnitudes.contains(op) ? std::set<double>(magnitudes.at(op).begin(), magnitudes.at(op).end())
                                   : std::set<double>{};
  }
};

constexpr AugmentContext context{.height = 200, .width = 100};

Drawn draw_many(std::string_view name, int images = 6000) {
  const AugmentPolicy policy = AugmentPolicy::parse(name);
  Drawn drawn;
  for (int i = 0; i < images; ++i) {
    RandomSequence random(5, Purpose::test, static_cast<std::uint64_t>(i));
    const auto steps = policy.draw(context, random);
    drawn.steps.push_back(steps.size());
    for (const AugmentStep& step : steps) drawn.magnitudes[step.op].push_back(step.magnitude);
  }
  return drawn;
}

/// Within five standard deviations of a binomial count.
void expect_share(std::size_t count, double trials, double share, const std::string& what) {
  const double deviation = std::sqrt(trials * share * (1 - share));
  EXPECT_TRUE(std::abs(static_cast<double>(count) - trials * share) <= 5 * deviation + 1e-9)
      << what << ": " << count << " of " << trials << ", expected a share of " << share;
}

/// The magnitudes of an op are these, and each about as frequent as the others.
void expect_magnitudes(const Drawn& drawn, ImageOp op, const std::vector<double>& expected) {
  ASSERT_TRUE(drawn.magnitudes.contains(op)) << op.name();
  std::map<double, std::size_t> found;
  for (const double magnitude : drawn.magnitudes.at(op)) {
    bool known = false;
    for (const double value : expected) {
      if (std::abs(magnitude - value) > 1e-9) continue;
      known = true;
      ++found[value];
    }
    EXPECT_TRUE(known) << op.name() << ' ' << magnitude;
  }
  for (const double value : expected) {
    expect_share(found[value], static_cast<double>(drawn.count(op)), 1.0 / static_cast<double>(expected.size()),
                 std::string(op.name()) + " " + std::to_string(value));
  }
}

TEST(AugmentPolicy, TimmRandAugmentIncreasingHasThePublishedMagnitudes) {
  const Drawn drawn = draw_many("rand-m9-inc1", 20000);
  expect_magnitudes(drawn, "rotate", {-27, 27});
  expect_magnitudes(drawn, "posterize", {1});
  expect_magnitudes(drawn, "solarize", {26});
  expect_magnitudes(drawn, "solarize_add", {99});
  for (const ImageOp op : std::initializer_list<ImageOp>{"color", "contrast", "brightness", "sharpness"}) {
    expect_magnitudes(drawn, op, {0.19, 1.81});
  }
  for (const char* op : {"shear_x", "shear_y"}) expect_magnitudes(drawn, op, {-0.27, 0.27});
  expect_magnitudes(drawn, "translate_x", {-40.5, 40.5});
  expect_magnitudes(drawn, "translate_y", {-81, 81});
  EXPECT_EQ(drawn.magnitudes.size(), 15u);
  for (const auto& [op, magnitudes] : drawn.magnitudes) {  // 2 of 15 with replacement, each with probability 1/2
    expect_share(magnitudes.size(), 40000, 0.5 / 15, std::string(op.name()));
  }
  for (std::size_t steps = 0; steps <= 2; ++steps) {
    expect_share(static_cast<std::size_t>(std::ranges::count(drawn.steps, steps)), 20000, steps == 1 ? 0.5 : 0.25,
                 std::to_string(steps) + " steps");
  }
}

TEST(AugmentPolicy, TimmRandAugmentWithoutIncHasTheOriginalMagnitudes) {
  const Drawn drawn = draw_many("rand-m9-n3-p1");
  expect_magnitudes(drawn, "posterize", {3});
  expect_magnitudes(drawn, "solarize", {230});
  expect_magnitudes(drawn, "color", {1.72});
  for (const std::size_t steps : drawn.steps) EXPECT_EQ(steps, 3u);
  expect_magnitudes(draw_many("rand-p1-n1"), "rotate", {-30, 30});       // m defaults to 10
  expect_magnitudes(draw_many("rand-m10-inc1"), "posterize", {0});       // black
  expect_magnitudes(draw_many("rand-m20"), "rotate", {-30, 30});         // bounded
  expect_magnitudes(draw_many("rand-m20-mmax30"), "rotate", {-60, 60});  // not bounded
  expect_magnitudes(draw_many("rand-m30-mmax30-inc1"), "color", {0.1, 3.7});
  EXPECT_EQ(draw_many("rand-p0").magnitudes.size(), 0u);
}

TEST(AugmentPolicy, MagnitudesVaryByTheirDeviationAndStayInBounds) {
  double sum = 0, squares = 0;
  int bounded = 0;
  const Drawn drawn = draw_many("rand-m9-mstd0.5-inc1-n15", 3000);
  for (const double degrees : drawn.magnitudes.at("rotate")) {
    const double magnitude = std::abs(degrees) / 3;
    ASSERT_TRUE(magnitude >= 0 && magnitude <= 10);
    if (magnitude == 10) ++bounded;
    sum += magnitude;
    squares += magnitude * magnitude;
  }
  const auto count = static_cast<double>(drawn.count("rotate"));
  const double mean = sum / count, deviation = std::sqrt(squares / count - mean * mean);
  EXPECT_TRUE(std::abs(mean - 9) <= 0.08) << mean;
  EXPECT_TRUE(std::abs(deviation - 0.49) <= 0.06) << deviation;  // 0.5 but for the bound
  expect_share(static_cast<std::size_t>(bounded), count, 0.02275, "beyond two deviations");

  double largest = 0, smallest = 10;
  const Drawn uniform = draw_many("rand-m8-mstd101", 20000);
  for (const double degrees : uniform.magnitudes.at("rotate")) {
    largest = std::max(largest, std::abs(degrees) / 3);
    smallest = std::min(smallest, std::abs(degrees) / 3);
  }
  EXPECT_TRUE(largest <= 8 && largest > 7.8 && smallest < 0.2) << smallest << ' ' << largest;
  EXPECT_GT(draw_many("original-mstd0.5").values("rotate").size(), 100u);
}

TEST(AugmentPolicy, TorchvisionsRandAugmentIsThreeTimesWeaker) {
  const Drawn drawn = draw_many("ra", 20000);
  expect_magnitudes(drawn, "rotate", {-9, 9});
  expect_magnitudes(drawn, "posterize", {7});
  expect_magnitudes(drawn, "solarize", {178.5});
  expect_magnitudes(drawn, "contrast", {0.73, 1.27});
  expect_magnitudes(drawn, "shear_y", {-0.09, 0.09});
  expect_magnitudes(drawn, "translate_x", {-13, 13});  // int(0.136 * 100)
  expect_magnitudes(drawn, "translate_y", {-27, 27});
  EXPECT_EQ(drawn.magnitudes.size(), 14u);
  EXPECT_EQ(drawn.count("invert") + drawn.count("solarize_add"), 0u);
  for (const auto& [op, magnitudes] : drawn.magnitudes)
    expect_share(magnitudes.size(), 40000, 1.0 / 14, std::string(op.name()));
  expect_magnitudes(draw_many("ra-m30-n1"), "rotate", {-30, 30});
  for (const std::size_t steps : draw_many("ra-n4", 100).steps) EXPECT_EQ(steps, 4u);
}

TEST(AugmentPolicy, TrivialAugmentWideDrawsOneOperationOfAnyMagnitude) {
  const Drawn drawn = draw_many("ta_wide", 60000);
  EXPECT_EQ(drawn.magnitudes.size(), 14u);
  for (const auto& [op, magnitudes] : drawn.magnitudes)
    expect_share(magnitudes.size(), 60000, 1.0 / 14, std::string(op.name()));
  for (const std::size_t steps : drawn.steps) EXPECT_EQ(steps, 1u);
  const auto expect_range = [&](ImageOp op, double low, double high, std::size_t values) {
    const std::set<double> found = drawn.values(op);
    EXPECT_EQ(found.size(), values) << op.name();
    EXPECT_TRUE(std::abs(*found.begin() - low) <= 1e-9 && std::abs(*found.rbegin() - high) <= 1e-9)
        << op.name() << ' ' << *found.begin() << ' ' << *found.rbegin();
  };
  expect_range("rotate", -135, 135, 61);
  expect_range("shear_x", -0.99, 0.99, 61);
  expect_range("translate_y", -32, 32, 61);
  expect_range("color", 0.01, 1.99, 61);
  expect_range("posterize", 2, 8, 7);
  expect_range("solarize", 0, 255, 31);
}

TEST(AugmentPolicy, AutoAugmentAppliesPairs) {
  const Drawn cifar = draw_many("autoaugment-cifar10", 50000);
  expect_magnitudes(cifar, "rotate", {-30.0 * 2 / 9, 30.0 * 2 / 9});  // once in 25 pairs, with probability 0.7
  expect_share(cifar.count("rotate"), 50000, 0.7 / 25, "rotate");
  expect_share(cifar.count("invert"), 50000, 0.2 / 25, "invert");
  expect_magnitudes(cifar, "posterize", {8 - 3});  // round(7 / 2.25)
  const std::set<double> solarize = cifar.values("solarize");
  EXPECT_EQ(solarize.size(), 4u);  // magnitudes 2, 3, 5 and 8
  EXPECT_TRUE(std::abs(*solarize.rbegin() - (255 - 255 * 2 / 9.0)) <= 1e-9);
  const std::set<double> shift = cifar.values("translate_x");
  EXPECT_EQ(*shift.rbegin(), 45);  // int(150 / 331 * 100)

  const Drawn original = draw_many("original", 50000), vision = draw_many("autoaugment", 50000);
  EXPECT_EQ(original.values("posterize"), (std::set<double>{6, 7}));  // 4 + int(0.4 m) for m = 5, 6, 7, 8
  EXPECT_EQ(vision.values("posterize"), (std::set<double>{4, 5, 6}));
  EXPECT_EQ(draw_many("originalr").values("posterize"), (std::set<double>{1, 2}));
  EXPECT_EQ(draw_many("v0").values("posterize"), (std::set<double>{0, 2}));
  EXPECT_EQ(draw_many("v0r").values("posterize"), (std::set<double>{2, 4}));
  EXPECT_EQ(draw_many("v0").values("translate_y").size(), 2u);
  for (const ImageOp op : std::initializer_list<ImageOp>{"equalize", "rotate", "sharpness"}) {  // the same table
    const double share = op == "equalize" ? 11.2 / 25 : op == "rotate" ? 3.6 / 25 : 0.4 / 25;
    expect_share(original.count(op), 50000, share, std::string(op.name()));
    expect_share(vision.count(op), 50000, share, std::string(op.name()));
  }
}

TEST(AugmentPolicy, ThreeAugmentAppliesExactlyOneOfThree) {
  const Drawn drawn = draw_many("3a", 9000);
  EXPECT_EQ(drawn.magnitudes.size(), 3u);
  for (const std::size_t steps : drawn.steps) EXPECT_EQ(steps, 1u);
  for (const auto& [op, magnitudes] : drawn.magnitudes)
    expect_share(magnitudes.size(), 9000, 1.0 / 3, std::string(op.name()));
  expect_magnitudes(drawn, "solarize", {128});
  const std::set<double> radii = drawn.values("blur");
  EXPECT_TRUE(*radii.begin() >= 0.1 && *radii.begin() < 0.12 && *radii.rbegin() > 1.98 && *radii.rbegin() <= 2);
  EXPECT_TRUE(AugmentPolicy::parse("3a").keeps_color_jitter());
  EXPECT_FALSE(AugmentPolicy::parse("rand").keeps_color_jitter());
}

TEST(AugmentPolicy, ResamplingAndFillFollowTheFamily) {
  AugmentContext around{.height = 8, .width = 8, .resampling = Resampling::bilinear, .fill = {1, 2, 3}};
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

TEST(AugmentPolicy, EveryNameThatMessagesListIsParsed) {
  const std::string accepted = AugmentPolicy::accepted();
  EXPECT_EQ(accepted,
            "rand[-mN][-nN][-pX][-mstdX][-mmaxN][-incN], original[-mstdX], originalr, v0, v0r, 3a (timm), "
            "ra[-mN][-nN], ta_wide, autoaugment or autoaugment-cifar10 (torchvision)");
  const std::string bare = std::regex_replace(accepted, std::regex(R"(\[[^\]]*\]| \(\w+\)| or(?= ))"), "");  // no keys
  const std::regex name("[^, ]+");
  int names = 0;
  for (std::sregex_iterator found(bare.begin(), bare.end(), name), end; found != end; ++found, ++names) {
    EXPECT_FALSE(AugmentPolicy::parse(found->str()).empty()) << found->str();
  }
  EXPECT_EQ(names, 10);
}

TEST(AugmentPolicy, AnOperationWithoutMagnitudesInTheScaleIsAnError) {
  EXPECT_NE(policy_entry(MagnitudeScale::timm, "blur", 1, 5).magnitude_at, nullptr);
  EXPECT_EQ(policy_entry(MagnitudeScale::torchvision, "invert", 1, 5).magnitude_at, nullptr);  // takes none
  const auto blur = [] { return policy_entry(MagnitudeScale::torchvision, "blur", 1, 5); };
  expect_parts(error_of(blur), {"augmentation policy", "blur", "no magnitude"});
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
