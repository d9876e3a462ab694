// Attention on tensor cores: bf16, head dimension 32, 64 or 80. ops/attention/cuda.h has the idea
// in its clear form.
//
// The structure is FlashAttention-2's (Dao 2023). A warp owns 16 rows of the result: queries for y
// and dq, keys for dk and dv. Its own rows are left operands in registers; the other rows, k and v
// or q and dy, pass through shared memory, where all warps of the block read them. Scores and their
// gradients never leave the registers: the lanes hold the result of one product just where the left
// operand of the next one wants it (ops/drivers/tensor_core.h). Up to 256 of the other rows are
// loaded once and stay, which suffices for a ViT at 224 pixels and for a window of Swin; more of
// them come in blocks of 64.
#pragma once

#include <type_traits>

#include "ops/attention/cuda.h"
#include "ops/attention/fragments.h"
#include "ops/attention/mma_backward.h"

#if VT_CUDA
namespace vitrine::attention_mma {

// ---- Forward ----

/// The softmax and the result of a warp's 16 queries over the keys so far. Each lane adds up its
/// own weights in row_sum; the sums of the four lanes of a row are added at the end.
template <int D>
struct SoftmaxSums {
  // m, l and O of the paper, for the two rows of this lane.
  float row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {};
  FragmentC sums[D / 8] = {};

  /// Adds 64 keys, of which `tiles` tiles of 16 exist: their scores, and their rows of v in shared
  /// memory.
  __device__ void add(FragmentC (&scores)[tiles_per_block][2], int tiles, const bfloat16* values) {
    float base[2], factor[2];
    for (int half = 0; half < 2; ++half) {
      float new_max = row_max[half];
      for (const auto& tile : scores) {
        for (const FragmentC& c : tile) new_max = fmaxf(new_max, fmaxf(c.x[2 * half], c.x[2 * half + 1]));
      }
      new_max = reduce_over_row(new_max, [](float a, float b) { return fmaxf(a, b); });
      base[half] = new_max == -INFINITY ? 0 : new_max;  // all keys so far are masked: 2^(-infinity - 0) = 0
      factor[half] = exp2_approx(row_max[half] - base[half]);
      row_max[half] = new_max;
      row_sum[half] *= factor[half];
    }
    for (FragmentC& c : sums) {
      for (int i = 0; i < 4; ++i) c.x[i] *= factor[i / 2];
    }
#pragma unroll
    for (int tile = 0; tile < tiles_per_block; ++tile) {
      if (tile >= tiles) break;
      for_entries([&](int j, int i, int, int) {
        float& weight = scores[tile][j].x[i];
        weight = exp2_approx(weight - base[i / 2]);
        row_sum[i / 2] += weight;
      });
      multiply_rows<D>(sums, as_left(scores[tile]), values + tile * tile_rows * stride<D>);
    }
  }
};

/// y (B, H, N, D), logsumexp (B, H, N).
template <int D, bool has_bias>
__global__ void __launch_bounds__(most_forward_warps* warp_threads, forward_blocks_at_once<D, has_bias>)
    forward_kernel(Inputs in, Heads<bfloat16> y, float* logsumexp, Schedule schedule) {
  const WarpTiles at(schedule, in.H);
  const std::int64_t b = at.slice, h = at.h;
  const int N = static_cast<int>(in.N), M = static_cast<int>(in.M);
  const Scores<has_bias> score(in, b, h);
  const RowPair<D> keys{{in.k.at(b, h), in.k.row}, {in.v.at(b, h), in.v.row}, M};
  keys.start();
  for (int round = 0; round < schedule.rounds; ++round) {
    const int first = at.first_row(schedule, round);
    FragmentA q[D / 16];
    load_left<D>(q, {in.q.at(b, h), in.q.row}, first, N);
    SoftmaxSums<D> state;
    for (int block = 0; block < keys.blocks(); ++block) {
      keys.ready(block);
      if (first >= N) continue;  // this warp has no queries, but ready() waits for every warp
      const int tiles = keys.tiles(block);
      FragmentC scores[tiles_per_block][2] = {};
#pragma unroll
      for (int tile = 0; tile < tiles_per_block; ++tile) {
        if (tile < tiles) {
          multiply_transposed<D>(scores[tile], q, keys.first_rows(block) + tile * tile_rows * stride<D>);
        }
        for_entries([&](int j, int i, int row, int column) {
          float& x = scores[tile][j].x[i];
          x = score(x, first + row, block * block_rows + tile * tile_rows + column);
        });
      }
      state.add(scores, tiles, keys.second_rows(block));
    }
    if (first >= N) continue;
    float scale[2];
    for (int half = 0; half < 2; ++half) {
      const float row_sum = reduce_over_row(state.row_sum[half], [](float a, float c) { return a + c; });
      scale[half] = row_sum == 0 ? 0 : 1 / row_sum;  // 0 where every key is masked
      const int n = first + group_id() + half * 8;
      if (thread_in_group() == 0 && n < N) {
        logsumexp[(b * in.H + h) * N + n] = state.row_max[half] / math::log2_e + math::log(row_sum);
      }
    }
    store_rows<D>(y.at(b, h), y.row, first, N, state.sums, scale);
  }
}

// ---- Backward ----
// p = 2^(score - log2_sumexp), dp = dy v^T, ds = p (dp - delta) with delta = rowsum(dy y).

/// delta = rowsum(dy y) of the lane's two rows, where y and dy are left operands.
template <int D>
__device__ void row_deltas(float (&delta)[2], const FragmentA (&y)[D / 16], const FragmentA (&dy)[D / 16]) {
  const auto low = [](std::uint32_t pair) { return std::bit_cast<float>(pair << 16); };
  const auto high = [](std::uint32_t pair) { return std::bit_cast<float>(pair & 0xFFFF0000u); };
  for (float& sum : delta) sum = 0;
#pragma unroll
  for (int s = 0; s < D / 16; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      delta[i % 2] += low(y[s].x[i]) * low(dy[s].x[i]) + high(y[s].x[i]) * high(dy[s].x[i]);
    }
  }
  for (float& sum : delta) sum = reduce_over_row(sum, [](float a, float b) { return a + b; });
}

/// dq = scale ds k, and delta (B, H, N) = rowsum(dy y) for dkdv_kernel. Where dbias is wanted, adds
/// the ds of the samples of a slice to its partial sum: one sample after the other, each entry
/// always by the same lane.
template <int D, bool has_bias>
__global__ void __launch_bounds__(most_warps* warp_threads, blocks_at_once<D, has_bias>)
    dq_kernel(Inputs in, AttentionSaved<bfloat16> saved, float* delta, Heads<bfloat16> dq, BiasPartials<float> dbias,
              Schedule schedule) {
  const WarpTiles at(schedule, in.H);
  const std::int64_t h = at.h;
  const int N = static_cast<int>(in.N), M = static_cast<int>(in.M);
  const BatchSlice slice(at.slice, in.B, dbias.groups, dbias.parts);
  float* dbias_rows = has_bias && dbias.data ? dbias.part(slice.part).at(slice.group, h, 0) : nullptr;
  for (std::int64_t repetition = slice.begin; repetition < slice.end; ++repetition) {
    const std::int64_t b = slice.sample(repetition);
    const Scores<has_bias> score(in, b, h);
    const float* logsumexp = saved.logsumexp + (b * in.H + h) * N;
    const RowPair<D> keys{{in.k.at(b, h), in.k.row}, {in.v.at(b, h), in.v.row}, M};
    keys.start();
    for (int round = 0; round < schedule.rounds; ++round) {
      const int first = at.first_row(schedule, round), top = first + group_id();
      FragmentA q[D / 16], dy[D / 16], y[D / 16];
      load_left<D>(q, {in.q.at(b, h), in.q.row}, first, N);
      load_left<D>(dy, {saved.dy.at(b, h), saved.dy.row}, first, N);
      load_left<D>(y, {saved.y.at(b, h), saved.y.row}, first, N);
      const float row_log2_sumexp[2] = {log2_sumexp(logsumexp, top, N), log2_sumexp(logsumexp, top + 8, N)};
      float row_delta[2];
      row_deltas<D>(row_delta, y, dy);
      for (int half = 0; half < 2; ++half) {
        const int n = top + half * 8;
        if (thread_in_group() == 0 && n < N) delta[(b * in.H + h) * N + n] = row_delta[half];
      }
      FragmentC sums[D / 8] = {};
      for (int tile = 0; tile * tile_rows < M; ++tile) {
        const int block = tile / tiles_per_block, offset = tile % tiles_per_block * tile_rows * stride<D>;
        if (tile % tiles_per_block == 0) keys.ready(block);
        if (first >= N) continue;
        FragmentC ds[2] = {}, dp[2] = {};
        multiply_transposed<D>(ds, q, keys.first_rows(block) + offset);
        multiply_transposed<D>(dp, dy, keys.second_rows(block) + offset);
        for_entries([&](int j, int i, int row, int column) {
          const int n = first + row, m = tile * tile_rows + column;
          const float p = exp2_approx(score(ds[j].x[i], n, m) - row_log2_sumexp[i / 2]);
          ds[j].x[i] = p * (dp[j].x[i] - row_delta[i / 2]);
          if (has_bias && dbias_rows && n < N && m < M) dbias_rows[n * dbias.row + m * dbias.column] += ds[j].x[i];
        });
        multiply_rows<D>(sums, as_left(ds), keys.first_rows(block) + offset);
      }
      store_rows<D>(dq.at(b, h), dq.row, first, N, sums, {in.scale, in.scale});
    }
  }
}

/// dk = scale ds^T q and dv = p^T dy. Keys are rows and queries are columns here.
template <int D, bool has_bias>
__global__ void __launch_bounds__(most_warps* warp_threads, blocks_at_once<D, has_bias>)
    dkdv_kernel(Inputs in, AttentionSaved<bfloat16> saved, const float* delta, Heads<bfloat16> dk, Heads<bfloat16> dv,
                Schedule schedule) {
  const WarpTiles at(schedule, in.H);
  const std::int64_t b = at.slice, h = at.h;
  const int N = static_cast<int>(in.N), M = static_cast<int>(in.M);
  const Scores<has_bias> score(in, b, h);
  const float *logsumexp = saved.logsumexp + (b * in.H + h) * N, *head_delta = delta + (b * in.H + h) * N;
  const RowPair<D> queries{{in.q.at(b, h), in.q.row}, {saved.dy.at(b, h), saved.dy.row}, N};
  queries.start();
  for (int round = 0; round < schedule.rounds; ++round) {
    const int first = at.first_row(schedule, round);
    FragmentA k[D / 16], v[D / 16];
    load_left<D>(k, {in.k.at(b, h), in.k.row}, first, M);
    load_left<D>(v, {in.v.at(b, h), in.v.row}, first, M);
    FragmentC dk_sums[D / 8] = {}, dv_sums[D / 8] = {};
    for (int tile = 0; tile * tile_rows < N; ++tile) {
      const int block = tile / tiles_per_block, offset = tile % tiles_per_block * tile_rows * stride<D>;
      if (tile % tiles_per_block == 0) queries.ready(block);
      if (first >= M) continue;
      const bfloat16 *q = queries.first_rows(block) + offset, *dy = queries.second_rows(block) + offset;
      float column_log2_sumexp[4], column_delta[4];  // of the four queries that this lane has
      for (int i = 0; i < 4; ++i) {
        const int n = tile * tile_rows + i / 2 * 8 + 2 * thread_in_group() + i % 2;
        column_log2_sumexp[i] = log2_sumexp(logsumexp, n, N);
        column_delta[i] = n < N ? head_delta[n] : 0;
      }
      FragmentC p[2] = {}, ds[2] = {};
      multiply_transposed<D>(p, k, q);
      multiply_transposed<D>(ds, v, dy);
      for_entries([&](int j, int i, int row, int column) {
        const int n = tile * tile_rows + column, c = 2 * j + i % 2;
        p[j].x[i] = exp2_approx(score(p[j].x[i], n, first + row) - column_log2_sumexp[c]);
        ds[j].x[i] = p[j].x[i] * (ds[j].x[i] - column_delta[c]);
      });
      multiply_rows<D>(dv_sums, as_left(p), dy);
      multiply_rows<D>(dk_sums, as_left(ds), q);
    }
    store_rows<D>(dk.at(b, h), dk.row, first, M, dk_sums, {in.scale, in.scale});
    store_rows<D>(dv.at(b, h), dv.row, first, M, dv_sums, {1, 1});
  }
}

// ---- Launches ----

/// Whether rows can be copied 16 bytes at a time.
template <class T>
bool is_aligned(const Heads<T>& x) {
  return reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && x.batch % 8 == 0 && x.head % 8 == 0 && x.row % 8 == 0;
}

/// Whether these kernels can take a call with these operands and `others`; if not, those of
/// ops/attention/cuda.h can.
template <class... Others>
bool accepts(const Inputs& in, const Others&... others) {
  constexpr std::int64_t most = 1 << 30;  // offsets within a head are 32-bit integers
  const bool fits = (in.D == 32 || in.D == 64 || in.D == 80) && std::max(in.N, in.M) < most &&
                    in.N * in.bias.row + in.M * in.bias.column < most;
  return fits && is_aligned(in.q) && is_aligned(in.k) && is_aligned(in.v) && (is_aligned(others) && ...);
}

/// Calls body(D, has_bias) with compile-time constants.
template <class Body>
void with_constants(const Inputs& in, const Body& body) {
  const auto with_bias = [&](auto D) {
    if (in.bias.data) {
      body(D, std::true_type());
    } else {
      body(D, std::false_type());
    }
  };
  if (in.D == 32) {
    with_bias(std::integral_constant<int, 32>());
  } else if (in.D == 64) {
    with_bias(std::integral_constant<int, 64>());
  } else {
    with_bias(std::integral_constant<int, 80>());
  }
}

/// Launches schedule.blocks blocks for each of `heads` heads.
template <class... Parameters, class... Arguments>
void launch_schedule(void (*kernel)(Parameters...), const Schedule& schedule, std::int64_t heads, std::size_t shared,
                     Arguments... arguments) {
  launch(kernel, dim3(static_cast<unsigned>(heads * schedule.blocks)),
         dim3(static_cast<unsigned>(schedule.warps * warp_threads)), shared, current_stream(), arguments..., schedule);
}

inline void forward(const Inputs& in, Heads<bfloat16> y, float* logsumexp) {
  with_constants(in, [&]<int D, bool has_bias>(std::integral_constant<int, D>, std::bool_constant<has_bias>) {
    launch_schedule(forward_kernel<D, has_bias>, Schedule(in.N, in.M, most_forward_warps), in.B * in.H,
                    shared_bytes<D>(in.M), in, y, logsumexp);
  });
}

/// `delta` (B, H, N) is scratch memory.
inline void backward(const Inputs& in, const AttentionSaved<bfloat16>& saved, const AttentionGradients<bfloat16>& out,
                     float* delta) {
  if (fits_one_kernel(in)) return backward_in_one_kernel(in, saved, out);
  // dq_kernel can add up dbias over the batch alone. Sums over heads, queries or keys are left to
  // the clear version.
  const bool is_here = out.dbias.data && out.dbias.head != 0 && out.dbias.row != 0 && out.dbias.column != 0;
  BiasPartials<float> dbias;
  dbias.groups = in.B;  // without dbias, every sample is a slice of its own
  if (is_here) dbias = out.dbias;
  with_constants(in, [&]<int D, bool has_bias>(std::integral_constant<int, D>, std::bool_constant<has_bias>) {
    launch_schedule(dq_kernel<D, has_bias>, Schedule(in.N, in.M), dbias.groups * dbias.parts * in.H,
                    shared_bytes<D>(in.M), in, saved, delta, out.dq, dbias);
    launch_schedule(dkdv_kernel<D, has_bias>, Schedule(in.M, in.N), in.B * in.H, shared_bytes<D>(in.N), in, saved,
                    delta, out.dk, out.dv);
  });
  if (out.dbias.data && !is_here) attention_cuda::bias_gradient(in, saved, out.dbias, delta);
}

}  // namespace vitrine::attention_mma
#endif
