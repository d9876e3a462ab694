// Attention and its gradient as plain loops in double: the page to step through in a debugger, and
// the oracle of the tests. It keeps the probabilities p, which the fast code computes again.
//
// Arrays are row-major. Within head h of sample b their shapes are q, y (N, D), k, v (M, D) and s,
// p (N, M): n counts queries, m keys, d the elements of a row.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

namespace vitrine::attention_reference {

using Array = std::vector<double>;

struct Problem {
  std::int64_t B, H, N, M, D;
  double scale;
  Array q, k, v;     // (B, H, N, D), (B, H, M, D), (B, H, M, D)
  Array bias = {0};  // of bias_shape, (G, 1 or H, 1 or N, 1 or M); G divides B, and sample b takes bias b mod G
  std::array<std::int64_t, 4> bias_shape = {1, 1, 1, 1};

  /// Where head h of sample b begins in an array (B, H, ...).
  template <class AnyArray>
  auto* head(AnyArray& x, std::int64_t b, std::int64_t h) const {
    return x.data() + (b * H + h) * (static_cast<std::int64_t>(x.size()) / (B * H));
  }
  /// Which element of the bias, or of its gradient, belongs to a score.
  std::size_t bias_at(std::int64_t b, std::int64_t h, std::int64_t n, std::int64_t m) const {
    const auto& [groups, heads, queries, keys] = bias_shape;
    return static_cast<std::size_t>(((b % groups * heads + h % heads) * queries + n % queries) * keys + m % keys);
  }
};

struct Forward {
  Array y, p;  // (B, H, N, D), (B, H, N, M)
};

inline Forward forward(const Problem& x) {
  const std::int64_t N = x.N, M = x.M, D = x.D;
  Forward out{Array(x.q.size()), Array(static_cast<std::size_t>(x.B * x.H * N * M))};
  for (std::int64_t b = 0; b < x.B; ++b) {
    for (std::int64_t h = 0; h < x.H; ++h) {
      const double *q = x.head(x.q, b, h), *k = x.head(x.k, b, h), *v = x.head(x.v, b, h);
      double *y = x.head(out.y, b, h), *p = x.head(out.p, b, h);
      for (std::int64_t n = 0; n < N; ++n) {
        // s = scale q k^T + bias, in the memory of p
        double row_max = -INFINITY;
        for (std::int64_t m = 0; m < M; ++m) {
          double product = 0;
          for (std::int64_t d = 0; d < D; ++d) product += q[n * D + d] * k[m * D + d];
          p[n * M + m] = x.scale * product + x.bias[x.bias_at(b, h, n, m)];
          row_max = std::max(row_max, p[n * M + m]);
        }
        if (row_max == -INFINITY) {  // every key is masked: p and y are 0
          std::fill(p + n * M, p + (n + 1) * M, 0);
          continue;
        }
        // p = softmax(s) = e^s / rowsum(e^s); with row_max subtracted from s, e^s cannot overflow
        double row_sum = 0;
        for (std::int64_t m = 0; m < M; ++m) row_sum += p[n * M + m] = std::exp(p[n * M + m] - row_max);
        for (std::int64_t m = 0; m < M; ++m) p[n * M + m] /= row_sum;
        // y = p v
        for (std::int64_t m = 0; m < M; ++m) {
          for (std::int64_t d = 0; d < D; ++d) y[n * D + d] += p[n * M + m] * v[m * D + d];
        }
      }
    }
  }
  return out;
}

struct Backward {
  Array dq, dk, dv, dbias;  // shaped like q, k, v and bias
};

/// The steps of forward in reverse, given the gradient dy of y, and p.
inline Backward backward(const Problem& x, const Array& all_p, const Array& all_dy) {
  const std::int64_t N = x.N, M = x.M, D = x.D;
  Backward out{Array(x.q.size()), Array(x.k.size()), Array(x.v.size()), Array(x.bias.size())};
  for (std::int64_t b = 0; b < x.B; ++b) {
    for (std::int64_t h = 0; h < x.H; ++h) {
      const double *q = x.head(x.q, b, h), *k = x.head(x.k, b, h), *v = x.head(x.v, b, h);
      const double *p = x.head(all_p, b, h), *dy = x.head(all_dy, b, h);
      double *dq = x.head(out.dq, b, h), *dk = x.head(out.dk, b, h), *dv = x.head(out.dv, b, h);
      for (std::int64_t n = 0; n < N; ++n) {
        // The forward was y = p v, so now dv += p^T dy and dp = dy v^T.
        Array row(static_cast<std::size_t>(M));
        double* dp = row.data();
        for (std::int64_t m = 0; m < M; ++m) {
          for (std::int64_t d = 0; d < D; ++d) {
            dv[m * D + d] += p[n * M + m] * dy[n * D + d];
            dp[m] += dy[n * D + d] * v[m * D + d];
          }
        }
        // The forward was p = softmax(s), in which each s changes every p of its row, so now ds = p
        // (dp - rowsum(dp p)).
        double delta = 0;  // the fast code takes rowsum(dy y), which is the same sum
        for (std::int64_t m = 0; m < M; ++m) delta += dp[m] * p[n * M + m];
        for (std::int64_t m = 0; m < M; ++m) {
          const double ds = p[n * M + m] * (dp[m] - delta);
          // The forward was s = scale q k^T + bias, so now dq += scale ds k, dk += scale ds^T q and
          // dbias += ds.
          for (std::int64_t d = 0; d < D; ++d) {
            dq[n * D + d] += x.scale * ds * k[m * D + d];
            dk[m * D + d] += x.scale * ds * q[n * D + d];
          }
          out.dbias[x.bias_at(b, h, n, m)] += ds;
        }
      }
    }
  }
  return out;
}

}  // namespace vitrine::attention_reference
