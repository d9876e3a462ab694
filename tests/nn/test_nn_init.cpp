// Initial values: the moments and bounds of each distribution, and independence of the number of
// threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "nn/layers.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

struct Moments {
  double mean = 0, deviation = 0, kurtosis = 0, low = 0, high = 0;
};

Moments moments(const Tensor& x) {
  const auto values = cast_data(x, DType::f64).to_vector<double>();
  Moments m{.low = values[0], .high = values[0]};
  const auto count = static_cast<double>(values.size());
  for (const double v : values) m.mean += v / count;
  double second = 0, fourth = 0;
  for (const double v : values) {
    second += std::pow(v - m.mean, 2) / count;
    fourth += std::pow(v - m.mean, 4) / count;
    m.low = std::min(m.low, v);
    m.high = std::max(m.high, v);
  }
  m.deviation = std::sqrt(second);
  m.kurtosis = fourth / (second * second);
  return m;
}

constexpr std::int64_t count = 200000;  // deviations of the estimates: mean 0.0022, deviation 0.0016 of the true one

TEST(NnInit, NormalHasTheMomentsOfANormal) {
  Tensor x = empty({count}, DType::f64);
  fill_normal(x, 3, 2, {1, Purpose::initialization, 0});
  const Moments m = moments(x);
  EXPECT_TRUE(std::abs(m.mean - 3) < 0.02);
  EXPECT_TRUE(std::abs(m.deviation - 2) < 0.02);
  EXPECT_TRUE(std::abs(m.kurtosis - 3) < 0.06);
  EXPECT_TRUE(m.high > 3 + 2 * 3.5 && m.low < 3 - 2 * 3.5);  // it has tails
}

TEST(NnInit, UniformFillsItsInterval) {
  Tensor x = empty({count}, DType::f32);
  fill_uniform(x, -1, 3, {1, Purpose::initialization, 0});
  const Moments m = moments(x);
  EXPECT_TRUE(std::abs(m.mean - 1) < 0.015);
  EXPECT_TRUE(std::abs(m.deviation - 4 / std::sqrt(12.0)) < 0.01);
  EXPECT_TRUE(m.low >= -1 && m.low < -0.99 && m.high <= 3 && m.high > 2.99);
}

TEST(NnInit, TruncatedNormalStaysInsideItsAbsoluteBounds) {
  Tensor x = empty({count}, DType::f64);
  fill_truncated_normal(x, 1, {1, Purpose::initialization, 0}, -2, 2);
  Moments m = moments(x);
  EXPECT_TRUE(m.low >= -2 && m.low < -1.99 && m.high <= 2 && m.high > 1.99);
  EXPECT_TRUE(std::abs(m.deviation - 0.87963) < 0.005);  // of a unit normal cut at 2: sqrt(1 - 4 p(2) / (2 P(2) - 1))
  fill_truncated_normal(x, 0.02, {1, Purpose::initialization, 0});  // bounds 100 deviations out: a plain normal
  m = moments(x);
  EXPECT_TRUE(std::abs(m.deviation - 0.02) < 0.0002);
  EXPECT_TRUE(std::abs(m.kurtosis - 3) < 0.06 && m.high > 0.07);
}

TEST(NnInit, TruncatedNormalDrawsEachElementAfreshAfterARejection) {
  Tensor x = empty({20000}, DType::f64);
  fill_truncated_normal(x, 1, {1, Purpose::initialization, 0}, -0.01, 0.01);  // nearly all first draws are rejected
  auto values = x.to_vector<double>();
  std::ranges::sort(values);
  EXPECT_EQ(std::ranges::adjacent_find(values), values.end());
  EXPECT_TRUE(values.front() >= -0.01 && values.back() <= 0.01);
}

TEST(NnInit, ValuesDoNotDependOnTheNumberOfThreads) {
  const int threads = num_threads();
  std::vector<std::vector<float>> results;
  for (const int used : {1, 3}) {
    set_num_threads(used);
    Initializer init(7);
    results.push_back(init.truncated_normal({50000}, 0.02).value().to_vector<float>());
  }
  set_num_threads(threads);
  EXPECT_EQ(results[0], results[1]);
}

TEST(NnInit, EachParameterHasItsOwnNumbersAndEachSeedToo) {
  Initializer init(7), same(7), other(8);
  const auto first = init.uniform({64}, 1).value().to_vector<float>();
  EXPECT_EQ(first, same.uniform({64}, 1).value().to_vector<float>());
  EXPECT_NE(first, init.uniform({64}, 1).value().to_vector<float>());
  EXPECT_NE(first, other.uniform({64}, 1).value().to_vector<float>());
}

TEST(NnInit, LinearSchemes) {
  Initializer init(1);
  const Linear plain = Linear::make(400, 300, init);
  const double bound = 1 / std::sqrt(400.0);
  EXPECT_TRUE(std::abs(moments(plain.weight.value()).high - bound) < 0.001 * bound);
  EXPECT_TRUE(moments(plain.bias->value()).high > 0.9 * bound && moments(plain.bias->value()).high <= bound);

  init.linear_scheme = LinearScheme::truncated_normal;
  const Linear timm = Linear::make(400, 300, init);
  EXPECT_TRUE(std::abs(moments(timm.weight.value()).deviation - 0.02) < 0.0003);
  EXPECT_EQ(moments(timm.bias->value()).high, 0);

  init.linear_scheme = LinearScheme::xavier_uniform;
  const Linear xavier = Linear::make(400, 300, init);
  EXPECT_TRUE(std::abs(moments(xavier.weight.value()).high - std::sqrt(6 / 700.0)) < 1e-4);
}

TEST(NnInit, PatchEmbedStartsAsAConvolutionDoes) {
  Initializer init(1);
  const PatchEmbed embed = PatchEmbed::make(3, 8, 96, init);
  const double bound = 1 / std::sqrt(3 * 8 * 8.0);
  for (const Parameter* p : {&embed.proj.weight, &embed.proj.bias}) {
    const Moments m = moments(p->value());
    EXPECT_TRUE(m.high <= bound && m.high > 0.95 * bound && m.low >= -bound && m.low < -0.95 * bound);
  }
}

TEST(NnInit, ShapesOnlyTakesNoMemory) {
  Initializer init = Initializer::shapes_only();
  const Linear layer = Linear::make(100000, 100000, init);
  EXPECT_EQ(parameter_count(layer), 100000ll * 100001);
  EXPECT_LE(layer.weight.value().storage()->bytes(), 8u);
}

}  // namespace
}  // namespace vitrine
