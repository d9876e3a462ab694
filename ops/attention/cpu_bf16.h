// Attention on the CPU for bf16: products by the processor's instructions for bf16, everything
// between them in f32, as on a GPU. Probabilities and the gradients of scores are rounded to bf16
// to be multiplied, and the sums of products stay in f32. The general version is in
// ops/attention/cpu.h.
#pragma once

#include "ops/attention/rows.h"

namespace vitrine::attention_cpu {

inline void round_to_bf16(const float* __restrict x, std::int64_t count, bfloat16* __restrict y) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = bfloat16(x[i]);
}

/// y = softmax(scale q k^T + bias) v and logsumexp (N) of one head.
inline void forward_head(const AttentionInputs<bfloat16>& in, std::int64_t b, std::int64_t h, const Heads<bfloat16>& y,
                         float* logsumexp) {
  thread_local std::vector<float> score_memory;
  thread_local std::vector<bfloat16> rounded_memory;
  const std::int64_t width = small_gemm::padded<float>(in.M), size = std::min(query_block, in.N) * width;
  float* scores = scratch(score_memory, size);
  bfloat16* rounded = scratch(rounded_memory, size);
  const auto k = head_of(in.k, b, h, in.M, in.D), v = head_of(in.v, b, h, in.M, in.D);
  for_row_blocks(b, h, in.N, [&](const RowBlock& block) {
    const Matrix<bfloat16> p{rounded, block.rows, in.M, width};
    multiply(rows_of(in.q, block, in.D), k.transposed(), Matrix<float>{scores, block.rows, in.M, width});  // q k^T
    finish_scores(in, block, scores);  // s = scale q k^T + bias
    for (std::int64_t r = 0; r < block.rows; ++r) {
      logsumexp[block.first + r] = softmax_in_place(scores + r * width, width);  // p
    }
    round_to_bf16(scores, block.rows * width, p.data);
    multiply(p, v, rows_of(y, block, in.D));  // y = p v
  });
}

/// dp (rows, padded M) = dy v^T, and 0 in the padding.
inline void probability_gradients(const Matrix<const bfloat16>& dy, const Matrix<const bfloat16>& v, float* dp) {
  const std::int64_t width = small_gemm::padded<float>(v.rows);
  multiply(dy, v.transposed(), Matrix<float>{dp, dy.rows, v.rows, width});
  for (std::int64_t r = 0; r < dy.rows; ++r) std::fill(dp + r * width + v.rows, dp + (r + 1) * width, 0.0f);
}

/// Gradients of one head; dbias, where it is wanted, is added to its part number `part`.
inline void backward_head(const AttentionInputs<bfloat16>& in, const AttentionSaved<bfloat16>& saved, std::int64_t b,
                          std::int64_t h, const AttentionGradients<bfloat16>& out, std::int64_t part) {
  thread_local std::vector<float> memory[4];
  thread_local std::vector<bfloat16> rounded_memory;
  const std::int64_t M = in.M, D = in.D, width = small_gemm::padded<float>(M),
                     size = std::min(query_block, in.N) * width;
  float *p = scratch(memory[0], size), *ds = scratch(memory[1], size);
  const Matrix<float> dk{scratch(memory[2], M * D), M, D, D}, dv{scratch(memory[3], M * D), M, D, D};
  bfloat16* rounded = scratch(rounded_memory, size);
  const auto k = head_of(in.k, b, h, M, D), v = head_of(in.v, b, h, M, D);
  const Bias<float> dbias = out.dbias.part(part);
  for_row_blocks(b, h, in.N, [&](const RowBlock& block) {
    const bool add = block.first > 0;  // later blocks add to dk and dv
    const auto q = rows_of(in.q, block, D), dy = rows_of(saved.dy, block, D);
    const Matrix<bfloat16> p_or_ds{rounded, block.rows, M, width};        // first p, later ds
    multiply(q, k.transposed(), Matrix<float>{p, block.rows, M, width});  // q k^T
    finish_scores(in, block, p);                                          // s = scale q k^T + bias
    restore_probabilities(in, saved, block, p);                           // p = softmax(s)
    round_to_bf16(p, block.rows * width, rounded);
    multiply(p_or_ds.transposed(), dy, dv, add);   // dv += p^T dy
    probability_gradients(dy, v, ds);              // dp = dy v^T
    softmax_backward(in, saved, block, p, ds);     // ds = p (dp - delta)
    finish_score_gradients(in, dbias, block, ds);  // dbias += ds, then ds *= scale
    round_to_bf16(ds, block.rows * width, rounded);
    multiply(p_or_ds, k, rows_of(out.dq, block, D));  // dq = ds k
    multiply(p_or_ds.transposed(), q, dk, add);       // dk += ds^T q
  });
  for (std::int64_t j = 0; j < M; ++j) {
    round_to_bf16(dk.data + j * D, D, out.dk.at(b, h, j));
    round_to_bf16(dv.data + j * D, D, out.dv.at(b, h, j));
  }
}

}  // namespace vitrine::attention_cpu
