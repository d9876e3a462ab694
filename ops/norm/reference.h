// LayerNorm as plain loops in double, one row after the other: what the fast code of
// ops/norm/layer_norm.cu computes, for a reader to start from and for tests to compare with.
//
// x, y and dy are (rows, D) in row-major order; weight and bias are (D).
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace vitrine::layer_norm_reference {

using Values = std::vector<double>;

struct RowMoments {
  double mean, rstd;
};

/// mean = sum(x) / D, var = sum((x - mean)^2) / D, rstd = 1 / sqrt(var + epsilon) of one row.
inline RowMoments row_moments(const double* x, std::size_t D, double epsilon) {
  double mean = 0, var = 0;
  for (std::size_t i = 0; i < D; ++i) mean += x[i] / static_cast<double>(D);
  for (std::size_t i = 0; i < D; ++i) var += (x[i] - mean) * (x[i] - mean) / static_cast<double>(D);
  return {mean, 1 / std::sqrt(var + epsilon)};
}

/// y = n weight + bias with n = (x - mean) rstd
inline Values forward(const Values& x, const Values& weight, const Values& bias, double epsilon) {
  const std::size_t D = weight.size();
  Values y(x.size());
  for (std::size_t row = 0; row < x.size(); row += D) {
    const auto [mean, rstd] = row_moments(&x[row], D, epsilon);
    for (std::size_t i = 0; i < D; ++i) {
      const double n = (x[row + i] - mean) * rstd;
      y[row + i] = n * weight[i] + bias[i];
    }
  }
  return y;
}

struct Gradients {
  Values dx, dweight, dbias;
};

/// Forward read backwards, one statement at a time: each passes its gradient on to what it was made
/// of.
inline Gradients backward(const Values& x, const Values& weight, double epsilon, const Values& dy) {
  const std::size_t D = weight.size();
  Gradients d{Values(x.size()), Values(D), Values(D)};
  for (std::size_t row = 0; row < x.size(); row += D) {
    const auto [mean, rstd] = row_moments(&x[row], D, epsilon);
    double drstd = 0, dmean = 0;
    for (std::size_t i = 0; i < D; ++i) {
      const double difference = x[row + i] - mean, n = difference * rstd;
      // The forward was y = n weight + bias, with one weight and one bias for all rows. So now:
      d.dweight[i] += dy[row + i] * n;
      d.dbias[i] += dy[row + i];
      const double dn = dy[row + i] * weight[i];
      // The forward was n = (x - mean) rstd, with one mean and one rstd for the row. So now:
      d.dx[row + i] += dn * rstd;  // term 1: x itself
      dmean -= dn * rstd;
      drstd += dn * difference;
    }
    for (std::size_t i = 0; i < D; ++i) {
      // The forward was mean = sum(x) / D. So now:
      d.dx[row + i] += dmean / static_cast<double>(D);  // term 2: through the mean
      // The forward was rstd = (var + epsilon)^(-1/2), whose slope is -rstd^3 / 2, and
      // var = sum((x - mean)^2) / D, whose slope is 2 (x - mean) / D. (The mean in it passes on
      // nothing: the sum of x - mean is 0.) So now:
      const double dvar = -0.5 * rstd * rstd * rstd * drstd;
      d.dx[row + i] += dvar * 2 * (x[row + i] - mean) / static_cast<double>(D);  // term 3: through rstd
    }
  }
  return d;
}

}  // namespace vitrine::layer_norm_reference
