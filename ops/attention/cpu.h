// Attention on the CPU: one task per (batch, head), scores for a block of query rows at a time, none kept.
#pragma once

#include "ops/attention/cpu_bf16.h"
#include "ops/attention/rows.h"
#include "ops/product/gemm.h"
#include "tensor/parallel.h"

namespace vitrine {

/// c (rows, D) (+)= a b, where a may be transposed by its strides.
template <class T>
void multiply_by_rows(std::int64_t rows, std::int64_t D, std::int64_t depth, small_gemm::StridedMatrix<T> a, const T* b,
                      std::int64_t b_row, bool add, T* c, std::int64_t c_row) {
  if (D % small_gemm::Vector<T>::width == 0) {
    small_gemm::multiply(rows, D, depth, a, b, b_row, add, c, c_row);
  } else {
    const bool transposed = a.row == 1 && a.column != 1;
    gemm_serial<T>(rows, D, depth, {a.data, transposed ? a.column : a.row, transposed}, {b, b_row}, T(add), c, c_row);
  }
}

/// scores (rows, padded M) = scale q k^T + bias for the query rows from `first` on. `keys` is k transposed and padded.
template <class T>
void attention_scores(const AttentionInputs<T>& in, std::int64_t b, std::int64_t h, std::int64_t first,
                      std::int64_t rows, const T* keys, T* scores) {
  const std::int64_t width = small_gemm::padded<T>(in.M);
  small_gemm::multiply<T>(rows, width, in.D, {in.q.at(b, h, first), in.q.row, 1}, keys, width, false, scores, width);
  finish_scores(in, b, h, first, rows, scores);
}

/// y = softmax(scores) v and logsumexp (N) of one (batch, head).
template <class T>
void attention_forward_head(const AttentionInputs<T>& in, std::int64_t b, std::int64_t h, Heads<T> y, T* logsumexp) {
  thread_local std::vector<T> key_memory, score_memory;
  const std::int64_t width = small_gemm::padded<T>(in.M);
  T* keys = scratch(key_memory, in.D * width);
  T* scores = scratch(score_memory, std::min(query_block, in.N) * width);
  small_gemm::transpose_padded(in.k.at(b, h), in.k.row, in.M, in.D, keys);
  for (std::int64_t first = 0; first < in.N; first += query_block) {
    const std::int64_t rows = std::min(query_block, in.N - first);
    attention_scores(in, b, h, first, rows, keys, scores);
    for (std::int64_t r = 0; r < rows; ++r) logsumexp[first + r] = softmax_row(scores + r * width, width);
    multiply_by_rows<T>(rows, in.D, in.M, {scores, width, 1}, in.v.at(b, h), in.v.row, false, y.at(b, h, first), y.row);
  }
}

/// Gradients of one (batch, head): dv = p^T dy, dp = dy v^T, dq = ds k, dk = ds^T q.
template <class T>
void attention_backward_head(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, std::int64_t b,
                             std::int64_t h, const AttentionGradients<T>& out) {
  thread_local std::vector<T> memory[4];
  const std::int64_t M = in.M, D = in.D, width = small_gemm::padded<T>(M), block = std::min(query_block, in.N);
  T *keys = scratch(memory[0], D * width), *values = scratch(memory[1], D * width);
  T *p = scratch(memory[2], block * width), *ds = scratch(memory[3], block * width);
  small_gemm::transpose_padded(in.k.at(b, h), in.k.row, M, D, keys);
  small_gemm::transpose_padded(in.v.at(b, h), in.v.row, M, D, values);
  for (std::int64_t first = 0; first < in.N; first += query_block) {
    const std::int64_t rows = std::min(query_block, in.N - first);
    const bool add = first > 0;  // later blocks add to dk and dv
    const T* dy = saved.dy.at(b, h, first);
    attention_scores(in, b, h, first, rows, keys, p);
    restore_probabilities(p, saved.logsumexp + (b * in.H + h) * in.N + first, rows, width);
    multiply_by_rows<T>(M, D, rows, {p, 1, width}, dy, saved.dy.row, add, out.dv.at(b, h), out.dv.row);
    small_gemm::multiply<T>(rows, width, D, {dy, saved.dy.row, 1}, values, width, false, ds, width);
    softmax_backward_rows(in, saved, b, h, first, rows, p, ds);
    finish_score_gradients(in, out, b, h, first, rows, ds);
    multiply_by_rows<T>(rows, D, M, {ds, width, 1}, in.k.at(b, h), in.k.row, false, out.dq.at(b, h, first), out.dq.row);
    multiply_by_rows<T>(M, D, rows, {ds, 1, width}, in.q.at(b, h, first), in.q.row, add, out.dk.at(b, h), out.dk.row);
  }
}

// ---- All heads ----

/// y (B, H, N, D) and logsumexp (B, H, N).
template <class T>
void attention_forward_cpu(const AttentionInputs<T>& in, Heads<T> y, Compute<T>* logsumexp) {
  parallel_for(in.B * in.H, 1, [&](std::int64_t task, std::int64_t) {
    attention_forward_head(in, task / in.H, task % in.H, y, logsumexp + task * in.N);
  });
}

/// Gradients of all heads. dbias has `parts` partial sums, one after the other, each of `part_size` elements: the samples that
/// share a bias are dealt out to the parts in order, so the order of additions does not depend on the threads.
template <class T>
void attention_backward_cpu(const AttentionInputs<T>& in, const AttentionSaved<T>& saved,
                            const AttentionGradients<T>& out, std::int64_t parts, std::int64_t part_size) {
  if (!out.dbias.data) {
    parallel_for(in.B * in.H, 1, [&](std::int64_t task, std::int64_t) {
      attention_backward_head(in, saved, task / in.H, task % in.H, out);
    });
    return;
  }
  const std::int64_t groups = out.dbias.groups;
  parallel_for(groups * parts, 1, [&](std::int64_t task, std::int64_t) {
    const BiasShare share(task, in.B, groups, parts);
    AttentionGradients<T> mine = out;
    mine.dbias.data += share.part * part_size;
    for (std::int64_t i = share.begin; i < share.end; ++i) {
      for (std::int64_t h = 0; h < in.H; ++h) attention_backward_head(in, saved, share.group + i * groups, h, mine);
    }
  });
}

}  // namespace vitrine
