// Attention on the CPU: one task per (batch, head), scores for a block of query rows at a time,
// none kept. The same formulas as ops/attention/reference.h, without its (N, M) matrices.
#pragma once

#include "ops/attention/cpu_bf16.h"
#include "ops/attention/rows.h"
#include "tensor/parallel.h"

namespace vitrine::attention_cpu {

/// k or v of one head (M, D) as (D, padded M), with zeros in the padding.
template <class T>
Matrix<T> transpose_head(const Heads<const T>& x, std::int64_t b, std::int64_t h, std::int64_t M, std::int64_t D,
                         std::vector<T>& memory) {
  const std::int64_t width = small_gemm::padded<T>(M);
  const Matrix<T> result{scratch(memory, D * width), D, width, width};
  small_gemm::transpose_padded(x.at(b, h), x.row, M, D, result.data);
  return result;
}

/// y = softmax(scale q k^T + bias) v and logsumexp (N) of one head.
template <class T>
void forward_head(const AttentionInputs<T>& in, std::int64_t b, std::int64_t h, const Heads<T>& y, T* logsumexp) {
  thread_local std::vector<T> key_memory, score_memory;
  const std::int64_t width = small_gemm::padded<T>(in.M);
  const Matrix<T> k_transposed = transpose_head(in.k, b, h, in.M, in.D, key_memory);
  T* memory = scratch(score_memory, std::min(query_block, in.N) * width);
  for_row_blocks(b, h, in.N, [&](const RowBlock& block) {
    const Matrix<T> scores{memory, block.rows, width, width};
    multiply(rows_of(in.q, block, in.D), k_transposed, scores);  // q k^T
    finish_scores(in, block, scores.data);                       // s = scale q k^T + bias
    for (std::int64_t r = 0; r < block.rows; ++r) {
      logsumexp[block.first + r] = softmax_in_place(scores.data + r * width, width);  // p
    }
    multiply(scores, head_of(in.v, b, h, in.M, in.D), rows_of(y, block, in.D));  // y = p v
  });
}

/// Gradients of one head; dbias, where it is wanted, is added to its part number `part`.
template <class T>
void backward_head(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, std::int64_t b, std::int64_t h,
                   const AttentionGradients<T>& out, std::int64_t part) {
  thread_local std::vector<T> memory[4];
  const std::int64_t M = in.M, D = in.D, width = small_gemm::padded<T>(M), size = std::min(query_block, in.N) * width;
  const Matrix<T> k_transposed = transpose_head(in.k, b, h, M, D, memory[0]);
  const Matrix<T> v_transposed = transpose_head(in.v, b, h, M, D, memory[1]);
  T *p_memory = scratch(memory[2], size), *ds_memory = scratch(memory[3], size);
  const auto k = head_of(in.k, b, h, M, D);
  const auto dk = head_of(out.dk, b, h, M, D), dv = head_of(out.dv, b, h, M, D);
  const Bias<T> dbias = out.dbias.part(part);
  for_row_blocks(b, h, in.N, [&](const RowBlock& block) {
    const bool add = block.first > 0;  // later blocks add to dk and dv
    const auto q = rows_of(in.q, block, D), dy = rows_of(saved.dy, block, D);
    const Matrix<T> p{p_memory, block.rows, width, width}, ds{ds_memory, block.rows, width, width};
    multiply(q, k_transposed, p);                         // q k^T
    finish_scores(in, block, p.data);                     // s = scale q k^T + bias
    restore_probabilities(in, saved, block, p.data);      // p = softmax(s)
    multiply(p.transposed(), dy, dv, add);                // dv += p^T dy
    multiply(dy, v_transposed, ds);                       // dp = dy v^T
    softmax_backward(in, saved, block, p.data, ds.data);  // ds = p (dp - delta)
    finish_score_gradients(in, dbias, block, ds.data);    // dbias += ds, then ds *= scale
    multiply(ds, k, rows_of(out.dq, block, D));           // dq = ds k
    multiply(ds.transposed(), q, dk, add);                // dk += ds^T q
  });
}

// ---- All heads ----

/// y (B, H, N, D) and logsumexp (B, H, N).
template <class T>
void forward(const AttentionInputs<T>& in, const Heads<T>& y, Compute<T>* logsumexp) {
  parallel_for(in.B * in.H, 1, [&](std::int64_t task, std::int64_t) {
    forward_head(in, task / in.H, task % in.H, y, logsumexp + task * in.N);
  });
}

/// Gradients of all heads. Each partial sum of dbias has a task of its own, so the order of
/// additions does not depend on the number of threads.
template <class T>
void backward(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, const AttentionGradients<T>& out) {
  if (!out.dbias.data) {
    parallel_for(in.B * in.H, 1,
                 [&](std::int64_t task, std::int64_t) { backward_head(in, saved, task / in.H, task % in.H, out, 0); });
    return;
  }
  parallel_for(out.dbias.groups * out.dbias.parts, 1, [&](std::int64_t task, std::int64_t) {
    const BatchSlice slice(task, in.B, out.dbias.groups, out.dbias.parts);
    for (std::int64_t i = slice.begin; i < slice.end; ++i) {
      for (std::int64_t h = 0; h < in.H; ++h) backward_head(in, saved, slice.sample(i), h, out, slice.part);
    }
  });
}

}  // namespace vitrine::attention_cpu
