// Attention on the CPU for bf16: products by the processor's instructions for bf16, everything between them in f32, as on a GPU.
// Probabilities and the gradients of scores are rounded to bf16 to be multiplied, and the sums of products stay in f32.
#pragma once

#include "ops/attention/rows.h"
#include "ops/product/gemm.h"

namespace vitrine {

inline void round_to_bf16(const float* __restrict x, std::int64_t count, bfloat16* __restrict y) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = bfloat16(x[i]);
}

/// scores (rows, padded M) = scale q k^T + bias for the query rows from `first` on.
inline void attention_scores(const AttentionInputs<bfloat16>& in, std::int64_t b, std::int64_t h, std::int64_t first,
                             std::int64_t rows, float* scores) {
  const std::int64_t width = small_gemm::padded<float>(in.M);
  gemm_serial<bfloat16>(rows, in.M, in.D, {in.q.at(b, h, first), in.q.row}, {in.k.at(b, h), in.k.row, true}, 0.0f,
                        scores, width);
  finish_scores(in, b, h, first, rows, scores);
}

/// y = softmax(scores) v and logsumexp (N) of one (batch, head).
inline void attention_forward_head(const AttentionInputs<bfloat16>& in, std::int64_t b, std::int64_t h,
                                   Heads<bfloat16> y, float* logsumexp) {
  thread_local std::vector<float> score_memory;
  thread_local std::vector<bfloat16> memory;
  const std::int64_t width = small_gemm::padded<float>(in.M), block = std::min(query_block, in.N);
  float* scores = scratch(score_memory, block * width);
  bfloat16* p = scratch(memory, block * width);
  for (std::int64_t first = 0; first < in.N; first += query_block) {
    const std::int64_t rows = std::min(query_block, in.N - first);
    attention_scores(in, b, h, first, rows, scores);
    for (std::int64_t r = 0; r < rows; ++r) logsumexp[first + r] = softmax_row(scores + r * width, width);
    round_to_bf16(scores, rows * width, p);
    gemm_serial<bfloat16>(rows, in.D, in.M, {p, width}, {in.v.at(b, h), in.v.row}, bfloat16(0.0f), y.at(b, h, first),
                          y.row);
  }
}

/// dp (rows, padded M) = dy v^T, and 0 in the padding.
inline void probability_gradients(const AttentionInputs<bfloat16>& in, const AttentionSaved<bfloat16>& saved,
                                  std::int64_t b, std::int64_t h, std::int64_t first, std::int64_t rows, float* dp) {
  const std::int64_t width = small_gemm::padded<float>(in.M);
  gemm_serial<bfloat16>(rows, in.M, in.D, {saved.dy.at(b, h, first), saved.dy.row}, {in.v.at(b, h), in.v.row, true},
                        0.0f, dp, width);
  for (std::int64_t r = 0; r < rows; ++r) std::fill(dp + r * width + in.M, dp + (r + 1) * width, 0.0f);
}

/// Gradients of one (batch, head): dv = p^T dy, dp = dy v^T, dq = ds k, dk = ds^T q.
inline void attention_backward_head(const AttentionInputs<bfloat16>& in, const AttentionSaved<bfloat16>& saved,
                                    std::int64_t b, std::int64_t h, const AttentionGradients<bfloat16>& out) {
  thread_local std::vector<float> memory[4];
  thread_local std::vector<bfloat16> rounded_memory;
  const std::int64_t M = in.M, D = in.D, width = small_gemm::padded<float>(M), block = std::min(query_block, in.N);
  float *p = scratch(memory[0], block * width), *ds = scratch(memory[1], block * width);
  float *dk = scratch(memory[2], M * D), *dv = scratch(memory[3], M * D);  // sums over all blocks
  bfloat16* rounded = scratch(rounded_memory, block * width);
  for (std::int64_t first = 0; first < in.N; first += query_block) {
    const std::int64_t rows = std::min(query_block, in.N - first);
    const float add = first > 0 ? 1 : 0;
    const MatrixView<bfloat16> by_keys{rounded, width, true};  // (M, rows)
    attention_scores(in, b, h, first, rows, p);
    restore_probabilities(p, saved.logsumexp + (b * in.H + h) * in.N + first, rows, width);
    round_to_bf16(p, rows * width, rounded);
    gemm_serial<bfloat16>(M, D, rows, by_keys, {saved.dy.at(b, h, first), saved.dy.row}, add, dv, D);
    probability_gradients(in, saved, b, h, first, rows, ds);
    softmax_backward_rows(in, saved, b, h, first, rows, p, ds);
    finish_score_gradients(in, out, b, h, first, rows, ds);
    round_to_bf16(ds, rows * width, rounded);
    gemm_serial<bfloat16>(rows, D, M, {rounded, width}, {in.k.at(b, h), in.k.row}, bfloat16(0.0f),
                          out.dq.at(b, h, first), out.dq.row);
    gemm_serial<bfloat16>(M, D, rows, by_keys, {in.q.at(b, h, first), in.q.row}, add, dk, D);
  }
  for (std::int64_t j = 0; j < M; ++j) {
    round_to_bf16(dk + j * D, D, out.dk.at(b, h, j));
    round_to_bf16(dv + j * D, D, out.dv.at(b, h, j));
  }
}

}  // namespace vitrine
