// Attention on the CPU, what happens to rows of scores between the products: scale, bias, softmax and their gradients. The same
// for every dtype; scores are never kept for more than one block of query rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "ops/attention/operands.h"
#include "ops/drivers/lanes.h"
#include "ops/drivers/math.h"
#include "ops/product/small_gemm.h"

namespace vitrine {

/// Query rows whose scores are in memory at a time.
inline constexpr std::int64_t query_block = 128;

/// Memory that a thread uses again for every head.
template <class T>
T* scratch(std::vector<T>& memory, std::int64_t count) {
  if (static_cast<std::int64_t>(memory.size()) < count) memory.resize(static_cast<std::size_t>(count));
  return memory.data();
}

/// scores (rows, padded M) = scale q k^T + bias, where the product is there, for the query rows from `first` on; -infinity in the
/// padding, so that the loops over a row need no remainder.
template <class T, class C = Compute<T>>
void finish_scores(const AttentionInputs<T>& in, std::int64_t b, std::int64_t h, std::int64_t first, std::int64_t rows,
                   C* scores) {
  const std::int64_t width = small_gemm::padded<C>(in.M);
  for (std::int64_t r = 0; r < rows; ++r) {
    C* row = scores + r * width;
    for (std::int64_t j = 0; j < width; ++j) row[j] *= in.scale;
    if (in.bias.data) {
      const T* bias = in.bias.at(b, h, first + r);
      for (std::int64_t j = 0; j < in.M; ++j) row[j] += static_cast<C>(bias[j * in.bias.column]);
    }
    std::fill(row + in.M, row + width, -std::numeric_limits<C>::infinity());
  }
}

/// combine(..., x[i], ...) over whole vectors, in a fixed order.
template <class T, class Combine>
T reduce_row(const T* x, std::int64_t width, const Combine& combine) {
  constexpr std::int64_t lanes = small_gemm::Vector<T>::width;
  T result[lanes];
  std::copy(x, x + lanes, result);
  for (std::int64_t j = lanes; j < width; j += lanes) {
    for (std::int64_t l = 0; l < lanes; ++l) result[l] = combine(result[l], x[j + l]);
  }
  for (std::int64_t half = lanes / 2; half > 0; half /= 2) {
    for (std::int64_t l = 0; l < half; ++l) result[l] = combine(result[l], result[l + half]);
  }
  return result[0];
}

/// row = softmax(row); returns its logsumexp. A row of -infinity becomes 0 and returns -infinity; NaN spreads.
template <class T>
T softmax_row(T* row, std::int64_t width) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const T largest = reduce_row(row, width, [](T a, T b) { return larger(a, b); });
  if (largest == -infinity) {
    std::fill(row, row + width, T(0));
    return largest;
  }
  for (std::int64_t j = 0; j < width; ++j) row[j] = math::exp(row[j] - largest);
  const T total = reduce_row(row, width, [](T a, T b) { return a + b; });
  const T factor = 1 / total;
  for (std::int64_t j = 0; j < width; ++j) row[j] *= factor;
  return largest + math::log(total);
}

/// probabilities = e^(scores - logsumexp), the softmax of forward once more.
template <class T>
void restore_probabilities(T* scores, const T* logsumexp, std::int64_t rows, std::int64_t width) {
  for (std::int64_t r = 0; r < rows; ++r) {
    T* row = scores + r * width;
    const T total = logsumexp[r];  // not read in the loop: for all that the compiler knows, it might be part of the row
    if (total == -std::numeric_limits<T>::infinity()) {
      std::fill(row, row + width, T(0));
      continue;
    }
    for (std::int64_t j = 0; j < width; ++j) row[j] = math::exp(row[j] - total);
  }
}

/// dscores = p (dp - sum_j p dp), where the sum is the product of y and dy of that row. Overwrites dp.
template <class T, class C = Compute<T>>
void softmax_backward_rows(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, std::int64_t b, std::int64_t h,
                           std::int64_t first, std::int64_t rows, const C* p, C* dp) {
  const std::int64_t width = small_gemm::padded<C>(in.M);
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* y = saved.y.at(b, h, first + r);
    const T* dy = saved.dy.at(b, h, first + r);
    const C inner = lane_sum<C>(in.D, [&](auto d) { return static_cast<C>(y[d]) * static_cast<C>(dy[d]); });
    const C* p_row = p + r * width;
    C* dp_row = dp + r * width;
    for (std::int64_t j = 0; j < width; ++j) dp_row[j] = p_row[j] * (dp_row[j] - inner);
  }
}

/// Adds dscores to dbias, then turns them into scale dscores, the gradient of q k^T.
template <class T, class C = Compute<T>>
void finish_score_gradients(const AttentionInputs<T>& in, const AttentionGradients<T>& out, std::int64_t b,
                            std::int64_t h, std::int64_t first, std::int64_t rows, C* ds) {
  const std::int64_t width = small_gemm::padded<C>(in.M);
  for (std::int64_t r = 0; out.dbias.data && r < rows; ++r) {
    C* dbias = out.dbias.at(b, h, first + r);
    for (std::int64_t j = 0; j < in.M; ++j) dbias[j * out.dbias.column] += ds[r * width + j];
  }
  for (std::int64_t i = 0; i < rows * width; ++i) ds[i] *= in.scale;
}

}  // namespace vitrine
