// What many tests say: a vector from a list, values near others, the message of an error.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace vitrine {

using Values = std::vector<double>;

inline Tensor vector_of(const Values& values) {
  return from_vector(values, {static_cast<std::int64_t>(values.size())});
}

/// Every entry within `bound` of what is expected, relative to max(1, |expected|). NaN is never
/// near.
inline void expect_near(const Tensor& actual, const Values& expected, double bound = 1e-12) {
  ASSERT_TRUE(actual.defined());
  const Values values = actual.to_vector<double>();
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double error = std::abs(values[i] - expected[i]) / std::max(1.0, std::abs(expected[i]));
    EXPECT_TRUE(error <= bound) << "entry " << i << " is " << values[i] << ", expected " << expected[i];
  }
}

/// Largest error relative to the largest magnitude that is expected; infinite where shapes differ,
/// nothing is defined or something is NaN. Single entries may be zero in exact arithmetic, so they
/// are not compared one by one.
inline double relative_error(const Tensor& got, const Tensor& expected) {
  if (!got.defined() || !(got.shape() == expected.shape())) return INFINITY;
  const Values a = to_device(cast_data(got, DType::f64), cpu).to_vector<double>(),
               b = to_device(cast_data(expected, DType::f64), cpu).to_vector<double>();
  double worst = 0, scale = 1e-300;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(a[i] - b[i]);
    if (std::isnan(error)) return INFINITY;
    worst = std::max(worst, error);
    scale = std::max(scale, std::abs(b[i]));
  }
  return worst / scale;
}

/// The message of the Error that `call` throws, or "" where it throws none.
template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace vitrine
