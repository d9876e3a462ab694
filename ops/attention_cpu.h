// Attention on the CPU: one task per (batch, head), scores for a block of query rows at a time, none kept.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "ops/gemm.h"
#include "ops/lanes.h"
#include "ops/math.h"
#include "tensor/parallel.h"

namespace vitrine {

/// (B, H, rows, D) with dense D: where a batch, a head and a row start, in elements.
template <class T>
struct Heads {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0;
  T* at(std::int64_t b, std::int64_t h, std::int64_t r = 0) const { return data + b * batch + h * head + r * row; }
};

/// The additive bias, (B, H, N, M) with stride 0 where it is broadcast.
template <class T>
struct Bias {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0, column = 0;
  T* at(std::int64_t b, std::int64_t h, std::int64_t r) const { return data + b * batch + h * head + r * row; }
};

template <class T>
struct AttentionInputs {
  std::int64_t B, H, N, M, D;  // N queries, M keys
  T scale;
  Heads<const T> q, k, v;
  Bias<const T> bias;  // data is nullptr without a bias
};

/// Query rows whose scores are in memory at a time.
inline constexpr std::int64_t query_block = 128;

/// scores (rows, M) = scale q k^T + bias for the query rows from `first` on.
template <class T>
void attention_scores(const AttentionInputs<T>& in, std::int64_t b, std::int64_t h, std::int64_t first,
                      std::int64_t rows, T* scores) {
  gemm_serial<T>(rows, in.M, in.D, {in.q.at(b, h, first), in.q.row}, {in.k.at(b, h), in.k.row, true}, T(0), scores,
                 in.M);
  for (std::int64_t r = 0; r < rows; ++r) {
    T* row = scores + r * in.M;
    for (std::int64_t j = 0; j < in.M; ++j) row[j] *= in.scale;
    if (!in.bias.data) continue;
    const T* bias = in.bias.at(b, h, first + r);
    for (std::int64_t j = 0; j < in.M; ++j) row[j] += bias[j * in.bias.column];
  }
}

/// row = softmax(row); returns its logsumexp. A row of -infinity becomes 0 and returns -infinity.
template <class T>
T softmax_row(T* row, std::int64_t M) {
  const T largest = lane_max<T>(M, [&](std::int64_t j) { return row[j]; });
  if (largest == -std::numeric_limits<T>::infinity()) {
    std::fill(row, row + M, T(0));
    return largest;
  }
  for (std::int64_t j = 0; j < M; ++j) row[j] = math::exp(row[j] - largest);
  const T total = lane_sum<T>(M, [&](std::int64_t j) { return row[j]; });
  const T factor = 1 / total;
  for (std::int64_t j = 0; j < M; ++j) row[j] *= factor;
  return largest + math::log(total);
}

/// y = softmax(scores) v and logsumexp (B, H, N).
template <class T>
void attention_forward_cpu(const AttentionInputs<T>& in, Heads<T> y, T* logsumexp) {
  parallel_for(in.B * in.H, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t b = task / in.H, h = task % in.H;
    thread_local std::vector<T> scores;
    scores.resize(static_cast<std::size_t>(std::min(query_block, in.N) * in.M));
    for (std::int64_t first = 0; first < in.N; first += query_block) {
      const std::int64_t rows = std::min(query_block, in.N - first);
      attention_scores(in, b, h, first, rows, scores.data());
      for (std::int64_t r = 0; r < rows; ++r) {
        logsumexp[task * in.N + first + r] = softmax_row(scores.data() + r * in.M, in.M);
      }
      gemm_serial<T>(rows, in.D, in.M, {scores.data(), in.M}, {in.v.at(b, h), in.v.row}, T(0), y.at(b, h, first),
                     y.row);
    }
  });
}

template <class T>
struct AttentionGradients {
  Heads<T> dq, dk, dv;
  Bias<T> dbias;  // data is nullptr where no gradient is wanted; zero before the first addition
};

/// What backward reads beside the inputs.
template <class T>
struct AttentionSaved {
  Heads<const T> y, dy;
  const T* logsumexp;  // (B, H, N)
};

/// probabilities = e^(scores - logsumexp), the softmax of forward once more.
template <class T>
void restore_probabilities(T* scores, const T* logsumexp, std::int64_t rows, std::int64_t M) {
  for (std::int64_t r = 0; r < rows; ++r) {
    T* row = scores + r * M;
    if (logsumexp[r] == -std::numeric_limits<T>::infinity()) {
      std::fill(row, row + M, T(0));
      continue;
    }
    for (std::int64_t j = 0; j < M; ++j) row[j] = math::exp(row[j] - logsumexp[r]);
  }
}

/// dscores = p (dp - sum_j p dp), where the sum is the product of y and dy of that row. Overwrites dp.
template <class T>
void softmax_backward_rows(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, std::int64_t b, std::int64_t h,
                           std::int64_t first, std::int64_t rows, const T* p, T* dp) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* y = saved.y.at(b, h, first + r);
    const T* dy = saved.dy.at(b, h, first + r);
    const T inner = lane_sum<T>(in.D, [&](std::int64_t d) { return y[d] * dy[d]; });
    const T* p_row = p + r * in.M;
    T* dp_row = dp + r * in.M;
    for (std::int64_t j = 0; j < in.M; ++j) dp_row[j] = p_row[j] * (dp_row[j] - inner);
  }
}

/// Gradients of one (batch, head).
template <class T>
void attention_backward_head(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, std::int64_t b,
                             std::int64_t h, const AttentionGradients<T>& out) {
  thread_local std::vector<T> p, ds;
  const std::int64_t block = std::min(query_block, in.N), M = in.M, D = in.D;
  p.resize(static_cast<std::size_t>(block * M));
  ds.resize(static_cast<std::size_t>(block * M));
  for (std::int64_t first = 0; first < in.N; first += query_block) {
    const std::int64_t rows = std::min(query_block, in.N - first);
    const T* dy = saved.dy.at(b, h, first);
    const T beta = first == 0 ? T(0) : T(1);  // later blocks add to dk and dv
    attention_scores(in, b, h, first, rows, p.data());
    restore_probabilities(p.data(), saved.logsumexp + (b * in.H + h) * in.N + first, rows, M);
    gemm_serial<T>(M, D, rows, {p.data(), M, true}, {dy, saved.dy.row}, beta, out.dv.at(b, h), out.dv.row);
    gemm_serial<T>(rows, M, D, {dy, saved.dy.row}, {in.v.at(b, h), in.v.row, true}, T(0), ds.data(), M);
    softmax_backward_rows(in, saved, b, h, first, rows, p.data(), ds.data());
    for (std::int64_t r = 0; out.dbias.data && r < rows; ++r) {
      T* dbias = out.dbias.at(b, h, first + r);
      for (std::int64_t j = 0; j < M; ++j) dbias[j * out.dbias.column] += ds[static_cast<std::size_t>(r * M + j)];
    }
    for (std::int64_t i = 0; i < rows * M; ++i) ds[static_cast<std::size_t>(i)] *= in.scale;
    gemm_serial<T>(rows, D, M, {ds.data(), M}, {in.k.at(b, h), in.k.row}, T(0), out.dq.at(b, h, first), out.dq.row);
    gemm_serial<T>(M, D, rows, {ds.data(), M, true}, {in.q.at(b, h, first), in.q.row}, beta, out.dk.at(b, h),
                   out.dk.row);
  }
}

/// Gradients of all heads. dbias has `parts` partial sums, one after the other, each of `part_size` elements: part i takes
/// the i-th share of the batch, so the order of additions does not depend on the threads.
template <class T>
void attention_backward_cpu(const AttentionInputs<T>& in, const AttentionSaved<T>& saved,
                            const AttentionGradients<T>& out, std::int64_t parts, std::int64_t part_size) {
  if (!out.dbias.data) {
    parallel_for(in.B * in.H, 1, [&](std::int64_t task, std::int64_t) {
      attention_backward_head(in, saved, task / in.H, task % in.H, out);
    });
    return;
  }
  parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
    AttentionGradients<T> mine = out;
    mine.dbias.data += part * part_size;
    for (std::int64_t b = part * in.B / parts; b < (part + 1) * in.B / parts; ++b) {
      for (std::int64_t h = 0; h < in.H; ++h) attention_backward_head(in, saved, b, h, mine);
    }
  });
}

}  // namespace vitrine
