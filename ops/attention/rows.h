// Attention on the CPU, one block of query rows at a time: the products, and what happens to rows
// of scores between them: scale, bias, softmax and their gradients. Scores are never kept for more
// than one block.
//
// Rows of scores are padded to whole vectors, (rows, padded M), so that the loops over a row need
// no remainder.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "ops/attention/operands.h"
#include "ops/drivers/lanes.h"
#include "ops/drivers/math.h"
#include "ops/product/gemm.h"
#include "ops/product/small_gemm.h"

namespace vitrine::attention_cpu {

/// Number of query rows in a block: their scores are in memory at a time.
inline constexpr std::int64_t query_block = 128;

/// Query rows first, first + 1, ..., first + rows - 1 of head h of sample b.
struct RowBlock {
  std::int64_t b, h, first, rows;
};

/// Calls body(block) for the blocks of the N query rows of one head, in order.
template <class Body>
void for_row_blocks(std::int64_t b, std::int64_t h, std::int64_t N, const Body& body) {
  for (std::int64_t first = 0; first < N; first += query_block) {
    body(RowBlock{b, h, first, std::min(query_block, N - first)});
  }
}

/// Memory that a thread uses again for every head.
template <class T>
T* scratch(std::vector<T>& memory, std::int64_t count) {
  if (static_cast<std::int64_t>(memory.size()) < count) memory.resize(static_cast<std::size_t>(count));
  return memory.data();
}

// ---- Products ----

/// A matrix (rows, columns) with dense rows that start `leading` elements apart, or the transpose
/// of such a matrix.
template <class T>
struct Matrix {
  T* data;
  std::int64_t rows, columns, leading;
  bool is_transposed = false;

  Matrix transposed() const { return {data, columns, rows, leading, !is_transposed}; }
};

/// The rows of a block of q, y or their gradients, (rows, D).
template <class T>
Matrix<T> rows_of(const Heads<T>& x, const RowBlock& block, std::int64_t D) {
  return {x.at(block.b, block.h, block.first), block.rows, D, x.row};
}
/// All rows of k, v or their gradients in one head, (M, D).
template <class T>
Matrix<T> head_of(const Heads<T>& x, std::int64_t b, std::int64_t h, std::int64_t M, std::int64_t D) {
  return {x.at(b, h), M, D, x.row};
}

/// c = a b, or c += a b where `add`. The sizes are those of b and c: a may be padded beyond them.
/// Only a may be transposed, in bf16 also b. Products of bf16 are added up in f32, and c is then
/// f32 or bf16.
template <class A, class B, class C>
void multiply(const Matrix<A>& a, const Matrix<B>& b, const Matrix<C>& c, bool add = false) {
  using T = std::remove_const_t<A>;
  if constexpr (!std::is_same_v<T, bfloat16>) {
    if (c.columns % small_gemm::Vector<T>::width == 0) {
      const std::int64_t row = a.is_transposed ? 1 : a.leading, column = a.is_transposed ? a.leading : 1;
      small_gemm::multiply<T>(c.rows, c.columns, b.rows, {a.data, row, column}, b.data, b.leading, add, c.data,
                              c.leading);
      return;
    }
  }
  gemm_serial<T>(c.rows, c.columns, b.rows, {a.data, a.leading, a.is_transposed}, {b.data, b.leading, b.is_transposed},
                 static_cast<C>(static_cast<float>(add)), c.data, c.leading);
}

// ---- Rows of scores ----

/// scores = scale q k^T + bias, where scores has q k^T already; -infinity in the padding.
template <class T, class C = Compute<T>>
void finish_scores(const AttentionInputs<T>& in, const RowBlock& block, C* scores) {
  const std::int64_t width = small_gemm::padded<C>(in.M);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    C* row = scores + r * width;
    for (std::int64_t j = 0; j < width; ++j) row[j] *= in.scale;
    if (in.bias.data) {
      const T* bias = in.bias.at(block.b, block.h, block.first + r);
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

/// row = softmax(row); returns its logsumexp. A row of -infinity becomes 0 and returns -infinity;
/// NaN spreads.
template <class T>
T softmax_in_place(T* row, std::int64_t width) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const T row_max = reduce_row(row, width, [](T a, T b) { return larger(a, b); });
  if (row_max == -infinity) {
    std::fill(row, row + width, T(0));
    return row_max;
  }
  for (std::int64_t j = 0; j < width; ++j) row[j] = math::exp(row[j] - row_max);
  const T row_sum = reduce_row(row, width, [](T a, T b) { return a + b; });
  const T factor = 1 / row_sum;
  for (std::int64_t j = 0; j < width; ++j) row[j] *= factor;
  return row_max + math::log(row_sum);
}

/// p = e^(scores - logsumexp), the softmax of forward once more. Overwrites the scores.
template <class T, class C = Compute<T>>
void restore_probabilities(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, const RowBlock& block,
                           C* scores) {
  const std::int64_t width = small_gemm::padded<C>(in.M);
  const C* logsumexps = saved.logsumexp + (block.b * in.H + block.h) * in.N + block.first;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    C* row = scores + r * width;
    const C logsumexp = logsumexps[r];  // a copy: the compiler must assume that writing to the row may change the array
    if (logsumexp == -std::numeric_limits<C>::infinity()) {
      std::fill(row, row + width, C(0));
      continue;
    }
    for (std::int64_t j = 0; j < width; ++j) row[j] = math::exp(row[j] - logsumexp);
  }
}

/// ds = p (dp - delta), where delta = rowsum(dy y). Overwrites dp.
template <class T, class C = Compute<T>>
void softmax_backward(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, const RowBlock& block, const C* p,
                      C* dp) {
  const std::int64_t width = small_gemm::padded<C>(in.M);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const T* y = saved.y.at(block.b, block.h, block.first + r);
    const T* dy = saved.dy.at(block.b, block.h, block.first + r);
    const C delta = lane_sum<C>(in.D, [&](auto d) { return static_cast<C>(y[d]) * static_cast<C>(dy[d]); });
    const C* p_row = p + r * width;
    C* dp_row = dp + r * width;
    for (std::int64_t j = 0; j < width; ++j) dp_row[j] = p_row[j] * (dp_row[j] - delta);
  }
}

/// dbias += ds where dbias is wanted, then ds *= scale: the gradient of q k^T.
template <class T, class C = Compute<T>>
void finish_score_gradients(const AttentionInputs<T>& in, const Bias<C>& dbias, const RowBlock& block, C* ds) {
  const std::int64_t width = small_gemm::padded<C>(in.M);
  for (std::int64_t r = 0; dbias.data && r < block.rows; ++r) {
    C* row = dbias.at(block.b, block.h, block.first + r);
    for (std::int64_t j = 0; j < in.M; ++j) row[j * dbias.column] += ds[r * width + j];
  }
  for (std::int64_t i = 0; i < block.rows * width; ++i) ds[i] *= in.scale;
}

}  // namespace vitrine::attention_cpu
