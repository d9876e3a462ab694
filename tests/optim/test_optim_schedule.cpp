// Schedules against timm's numbers and their formulas; the moving average of parameters against its
// recurrence.
#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "optim/average.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"

namespace vitrine {
namespace {

bool is_close(double got, double expected, double tolerance = 1e-14) {
  return std::abs(got - expected) <= tolerance * std::abs(expected);
}

TEST(OptimSchedule, DeiTsRates) {
  const Schedule deit{.base = 1e-3, .minimum = 1e-5, .warmup_start = 1e-6, .warmup = 5, .total = 300};
  EXPECT_TRUE(is_close(deit.at(0), 1e-6));
  EXPECT_TRUE(is_close(deit.at(1), 2.008e-4));
  EXPECT_TRUE(is_close(deit.at(4), 8.002e-4));
  EXPECT_TRUE(is_close(deit.at(5), 9.9932e-4, 1e-5)) << deit.at(5);  // not base: the cosine began at t = 0
  EXPECT_TRUE(is_close(deit.at(150), 5.05e-4));
  EXPECT_TRUE(is_close(deit.at(299), 1.003e-5, 1e-3)) << deit.at(299);
  EXPECT_EQ(deit.at(300), 1e-5);
  EXPECT_EQ(deit.at(1000), 1e-5);
}

TEST(OptimSchedule, EqualsTimmAtEveryStep) {
  const auto file = read_safetensors(source_dir() + "/tests/golden/adamw.safetensors");
  Schedule schedule{.base = 3e-2, .minimum = 1e-5, .warmup_start = 1e-6, .warmup = 10, .total = 100};
  for (const char* name : {"lr", "lr_prefix"}) {
    const auto expected = file.at(name).to_vector<double>();
    ASSERT_EQ(expected.size(), 100u);
    for (std::int64_t t = 0; t < 100; ++t) {
      EXPECT_TRUE(is_close(schedule.at(t), expected[static_cast<std::size_t>(t)])) << name << " at " << t;
    }
    schedule.decay_after_warmup = true;
  }
}

TEST(OptimSchedule, AfterTheWarmupItStartsAtTheBase) {
  const Schedule s{.base = 1, .minimum = 0.2, .warmup = 4, .total = 10, .decay_after_warmup = true};
  EXPECT_EQ(s.at(0), 0);
  EXPECT_EQ(s.at(3), 0.75);
  EXPECT_EQ(s.at(4), 1);
  EXPECT_TRUE(is_close(s.at(9), 0.6));
  EXPECT_EQ(s.at(14), 0.2);
}

TEST(OptimSchedule, ConstantAndLinear) {
  const Schedule constant{.decay = Schedule::Decay::constant, .base = 2, .warmup = 2, .total = 5};
  EXPECT_EQ(constant.at(1), 1);
  EXPECT_EQ(constant.at(2), 2);
  EXPECT_EQ(constant.at(100), 2);
  const Schedule linear{.decay = Schedule::Decay::linear, .base = 2, .minimum = 1, .total = 4};
  EXPECT_EQ(linear.at(0), 2);
  EXPECT_EQ(linear.at(1), 1.75);
  EXPECT_EQ(linear.at(4), 1);
  EXPECT_EQ(linear.at(9), 1);
}

TEST(OptimSchedule, InStepsItPassesThroughTheRatesOfTheEpochs) {
  const Schedule epochs{.base = 1e-3, .minimum = 1e-5, .warmup_start = 1e-6, .warmup = 5, .total = 300};
  const Schedule steps = epochs.times(391);
  for (const std::int64_t epoch : {0, 1, 4, 5, 17, 299, 300}) {
    EXPECT_TRUE(is_close(steps.at(epoch * 391), epochs.at(epoch))) << epoch;
  }
  EXPECT_GT(steps.at(1), steps.at(0));
  EXPECT_LT(steps.at(1), epochs.at(1));
}

TEST(OptimSchedule, NamesAndMistakes) {
  EXPECT_EQ(decay_from_name("cosine"), Schedule::Decay::cosine);
  EXPECT_EQ(decay_from_name("linear"), Schedule::Decay::linear);
  EXPECT_EQ(decay_from_name("constant"), Schedule::Decay::constant);
  EXPECT_THROW(decay_from_name("cosin"), Error);
  EXPECT_THROW(Schedule{}.at(-1), Error);
  EXPECT_THROW(Schedule{.total = 0}.at(1), Error);
  EXPECT_THROW(Schedule{}.times(0), Error);
}

TEST(OptimAverage, FollowsItsRecurrence) {
  Parameter source(from_values<double>({1, 2, 3}, {3})), target(clone(source.value()));
  ParameterAverage average({{"p", &source}}, {{"p", &target}}, 0.9);
  std::vector<double> expected{1, 2, 3};
  for (int t = 1; t <= 4; ++t) {
    fill(source.value(), t);
    const std::uint64_t version = target.value().storage()->version();
    average.update();
    EXPECT_GT(target.value().storage()->version(), version);
    for (std::size_t i = 0; i < 3; ++i) {
      expected[i] = 0.9 * expected[i] + 0.1 * t;
      EXPECT_TRUE(is_close(target.value().to_vector<double>()[i], expected[i])) << t;
    }
  }
}

TEST(OptimAverage, MistakesAreErrors) {
  Parameter a(ones({2})), b(ones({2})), c(ones({3})), d(ones({2}, DType::f64));
  EXPECT_THROW(ParameterAverage({{"p", &a}}, {{"p", &a}}, 0.9), Error);  // the same elements
  EXPECT_THROW(ParameterAverage({{"p", &a}}, {{"q", &b}}, 0.9), Error);
  EXPECT_THROW(ParameterAverage({{"p", &a}}, {{"p", &c}}, 0.9), Error);
  EXPECT_THROW(ParameterAverage({{"p", &a}}, {{"p", &d}}, 0.9), Error);
  EXPECT_THROW(ParameterAverage({{"p", &a}}, {}, 0.9), Error);
  EXPECT_THROW(ParameterAverage({{"p", &a}}, {{"p", &b}}, 1.1), Error);
}

}  // namespace
}  // namespace vitrine
