// Philox against the vectors that its authors published, and the distributions built on it.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tensor/philox.h"

namespace vitrine {
namespace {

void expect_words(const PhiloxBlock& block, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  EXPECT_EQ(block.word[0], a);
  EXPECT_EQ(block.word[1], b);
  EXPECT_EQ(block.word[2], c);
  EXPECT_EQ(block.word[3], d);
}

// Random123 1.09, examples/kat_vectors, "philox4x32 10".
TEST(Philox, EqualsThePublishedVectors) {
  expect_words(philox4x32_10({{0, 0, 0, 0}}, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  constexpr std::uint32_t all = 0xffffffff;
  expect_words(philox4x32_10({{all, all, all, all}}, all, all), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect_words(philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0), 0xd16cfe09,
               0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST(Philox, SeedPurposeStreamAndIndexEachGiveOtherNumbers) {
  const Random base{1, Purpose::dropout, 2};
  std::set<std::uint32_t> words{base.bits(0)};
  words.insert(base.bits(4));
  words.insert(base.bits(std::uint64_t{4} << 32));
  words.insert(Random{2, Purpose::dropout, 2}.bits(0));
  words.insert(Random{std::uint64_t{1} << 32, Purpose::dropout, 2}.bits(0));
  words.insert(Random{1, Purpose::shuffle, 2}.bits(0));
  words.insert(Random{1, Purpose::dropout, 3}.bits(0));
  words.insert(Random{1, Purpose::dropout, std::uint64_t{2} << 32}.bits(0));
  EXPECT_EQ(words.size(), 8u);
}

TEST(Philox, ASequenceReadsTheStreamInOrder) {
  const Random random{5, Purpose::test, 6};
  RandomSequence sequence(random);
  for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(sequence.bits(), random.bits(i));
}

struct Moments {
  double mean = 0, variance = 0;
};

template <class Draw>
Moments moments(int count, const Draw& draw) {
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    const double x = draw();
    sum += x;
    squares += x * x;
  }
  return {sum / count, squares / count - sum / count * sum / count};
}

// Bounds are about five standard errors, and the numbers are always the same.
TEST(Philox, DistributionsHaveTheirMoments) {
  RandomSequence random(7, Purpose::test);
  const int count = 200'000;
  const auto near = [](const Moments& got, double mean, double variance, double bound) {
    EXPECT_TRUE(std::abs(got.mean - mean) <= bound) << got.mean;
    EXPECT_TRUE(std::abs(got.variance - variance) <= 3 * bound) << got.variance;
  };
  near(moments(count, [&] { return random.uniform(); }), 0.5, 1.0 / 12, 0.004);
  near(moments(count, [&] { return random.normal(); }), 0, 1, 0.012);
  near(moments(count, [&] { return random.gamma(0.8); }), 0.8, 0.8, 0.012);
  near(moments(count, [&] { return random.gamma(3); }), 3, 3, 0.02);
  near(moments(count, [&] { return random.beta(0.8, 0.8); }), 0.5, 0.25 / 2.6, 0.005);
}

TEST(Philox, IntegersStayBelowTheirBoundAndReachAllOfIt) {
  RandomSequence random(8, Purpose::test);
  std::set<std::int64_t> seen;
  for (int i = 0; i < 200; ++i) {
    const std::int64_t value = random.integer(5);
    EXPECT_GE(value, 0);
    EXPECT_LT(value, 5);
    seen.insert(value);
  }
  EXPECT_EQ(seen.size(), 5u);
}

}  // namespace
}  // namespace vitrine
