// Attention on tensor cores over at most 64 tokens with heads of 32, as in the windows of Swin.
// ops/attention/mma.h has the kernels for more tokens.
//
// A block computes one head of a slice of the batch, one sample (window) after the other. Each of
// its four warps owns 16 queries and has their scores with all keys in registers at once. Three
// things become simple:
// - The bias is read once for all samples of the slice, which share it, and stays in registers; so
//   does the sum of the score gradients over the samples, which is the bias's gradient.
// - Softmax sees its whole row, in backward too: p, and delta = rowsum(dp p), are computed from q,
//   k, v and dy, so that backward reads neither y nor logsumexp.
// - dq is a sum over keys, and comes from what a warp has. dk and dv are sums over queries, and so
//   over warps: p and ds go through shared memory once, and each warp takes 16 keys.
// While one sample is computed, the rows of the next one are copied to shared memory.
#pragma once

#include "ops/attention/fragments.h"

#if VT_CUDA
namespace vitrine::attention_window {

using namespace attention_mma;

inline constexpr int D = 32, window_tiles = 4, window_rows = window_tiles * tile_rows;
inline constexpr int window_threads = window_tiles * warp_threads;
inline constexpr int p_stride = window_rows + 8;  // of p and ds; as stride<D>, without bank conflicts
inline constexpr int matrix_elements = window_rows * stride<D>;

/// The scores of a warp's 16 queries with all keys, and whatever has their shape.
using ScoreTiles = FragmentC[window_tiles][2];

/// Calls body(tile, j, i, n, m) for the entries [tile][j].x[i] that this lane has of a warp's rows:
/// query n, key m.
template <class Body>
__device__ void for_scores(int first_query, const Body& body) {
#pragma unroll
  for (int tile = 0; tile < window_tiles; ++tile) {
    for_entries(
        [&](int j, int i, int row, int column) { body(tile, j, i, first_query + row, tile * tile_rows + column); });
  }
}

// ---- Rows in shared memory: those of one sample, and behind them those of the next ----

/// `count` matrices (64, D) of each of two samples, with zeros beyond their length.
template <int count>
struct SampleRows {
  bfloat16* shared = dynamic_shared<bfloat16>();

  __device__ const bfloat16* matrix(int stage, int index) const {
    return shared + (stage * count + index) * matrix_elements;
  }
  __device__ void load(int stage, const Rows (&from)[count], const int (&lengths)[count]) const {
    constexpr int pieces = D / 8;  // of 16 bytes
#pragma unroll
    for (int index = 0; index < count; ++index) {
      bfloat16* to = shared + (stage * count + index) * matrix_elements;
#pragma unroll
      for (int i = static_cast<int>(threadIdx.x); i < window_rows * pieces; i += window_threads) {
        const int r = i / pieces, d = i % pieces * 8;
        cp_async_16(to + r * stride<D> + d, from[index].at(r) + d, r < lengths[index]);
      }
    }
  }
};

/// Calls body(stage, b) for the samples b of the slice, when their rows are in shared memory;
/// `load` starts the copies of a sample to a stage.
template <class Load, class Body>
__device__ void for_each_sample(const BatchSlice& slice, const Load& load, const Body& body) {
  if (slice.begin < slice.end) load(0, slice.sample(slice.begin));
  for (std::int64_t i = slice.begin; i < slice.end; ++i) {
    const int stage = static_cast<int>(i - slice.begin) % 2;
    cp_async_wait();
    block_barrier();  // this sample has arrived; the one before it has been read
    if (i + 1 < slice.end) load(1 - stage, slice.sample(i + 1));
    body(stage, slice.sample(i));
  }
}

// ---- Softmax of whole rows ----

/// What is added to the scores of a warp's queries, as pairs of neighbours in bf16: the bias, and
/// -infinity beyond the last key.
struct ScoreBias {
  std::uint32_t pairs[window_tiles][2][2];

  __device__ ScoreBias(const Inputs& in, std::int64_t b, std::int64_t h, int first_query) {
    const Bias<const bfloat16>& bias = in.bias;
    const auto value = [&](int n, int m) {
      if (m >= in.M) return -INFINITY;
      return bias.data && n < in.N ? static_cast<float>(bias.at(b, h, n)[m * bias.column]) : 0.0f;
    };
    for_scores(first_query, [&](int tile, int j, int i, int n, int m) {
      if (i % 2 == 0) pairs[tile][j][i / 2] = pack_bf16(value(n, m), value(n, m + 1));
    });
  }
  __device__ float operator()(int tile, int j, int i) const {
    const std::uint32_t pair = pairs[tile][j][i / 2];
    return std::bit_cast<float>(i % 2 == 0 ? pair << 16 : pair & 0xFFFF0000u);
  }
};

/// Turns the products of q and k into weights e^(score - row_max); a row is that of i / 2.
struct WindowSoftmax {
  float row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {};  // the former in units of log2

  __device__ WindowSoftmax(ScoreTiles& scores, const ScoreBias& bias, float scale) {
    const float unit = scale * math::log2_e;
    for_scores(0, [&](int tile, int j, int i, int, int) {
      float& x = scores[tile][j].x[i];
      x = x * unit + bias(tile, j, i) * math::log2_e;
      row_max[i / 2] = fmaxf(row_max[i / 2], x);
    });
    float base[2];
    for (int half = 0; half < 2; ++half) {
      row_max[half] = reduce_over_row(row_max[half], [](float a, float b) { return fmaxf(a, b); });
      base[half] = row_max[half] == -INFINITY ? 0 : row_max[half];  // every key is masked: 2^(-infinity - 0) = 0
    }
    for_scores(0, [&](int tile, int j, int i, int, int) {
      float& x = scores[tile][j].x[i];
      x = exp2_approx(x - base[i / 2]);
      row_sum[i / 2] += x;
    });
    for (float& sum : row_sum) sum = reduce_over_row(sum, [](float a, float b) { return a + b; });
  }
  __device__ float inverse_sum(int half) const { return row_sum[half] == 0 ? 0 : 1 / row_sum[half]; }
};

// ---- Forward ----

/// y (B, H, N, D), logsumexp (B, H, N). Blocks are numbered by slice, then head.
__global__ void __launch_bounds__(window_threads, 4)
    forward_kernel(Inputs in, Heads<bfloat16> y, float* logsumexp, std::int64_t groups, std::int64_t parts) {
  const std::int64_t h = blockIdx.x % in.H;
  const BatchSlice slice(blockIdx.x / in.H, in.B, groups, parts);
  const int first = static_cast<int>(threadIdx.x / warp_threads) * tile_rows;
  const int N = static_cast<int>(in.N), M = static_cast<int>(in.M);
  const ScoreBias bias(in, slice.group, h, first);
  const SampleRows<3> rows;
  const auto load = [&](int stage, std::int64_t b) {
    rows.load(stage, {{in.q.at(b, h), in.q.row}, {in.k.at(b, h), in.k.row}, {in.v.at(b, h), in.v.row}}, {N, M, M});
  };
  for_each_sample(slice, load, [&](int stage, std::int64_t b) {
    const bfloat16 *k = rows.matrix(stage, 1), *v = rows.matrix(stage, 2);
    FragmentA q[D / 16];
    load_left_shared<D>(q, rows.matrix(stage, 0) + first * stride<D>);
    ScoreTiles weights = {};
#pragma unroll
    for (int tile = 0; tile < window_tiles; ++tile) {
      multiply_transposed<D>(weights[tile], q, k + tile * tile_rows * stride<D>);
    }
    const WindowSoftmax softmax(weights, bias, in.scale);
    FragmentC sums[D / 8] = {};
#pragma unroll
    for (int tile = 0; tile < window_tiles; ++tile) {
      multiply_rows<D>(sums, as_left(weights[tile]), v + tile * tile_rows * stride<D>);
    }
    for (int half = 0; half < 2; ++half) {
      const int n = first + group_id() + half * 8;
      if (thread_in_group() == 0 && n < N) {
        logsumexp[(b * in.H + h) * N + n] = softmax.row_max[half] / math::log2_e + math::log(softmax.row_sum[half]);
      }
    }
    store_rows<D>(y.at(b, h), y.row, first, N, sums, {softmax.inverse_sum(0), softmax.inverse_sum(1)});
  });
}

// ---- Backward ----

/// The 16 keys of a warp: to = scale left^T right, with left (queries, keys) = p or ds, right
/// (queries, D) = dy or q.
__device__ inline void store_key_rows(const Heads<bfloat16>& to, std::int64_t b, std::int64_t h, int first, int M,
                                      const bfloat16* left, const bfloat16* right, float scale) {
  FragmentC sums[D / 8] = {};
#pragma unroll
  for (int tile = 0; tile < window_tiles; ++tile) {
    const FragmentA transposed = load_left_transposed(left + tile * tile_rows * p_stride + first, p_stride);
    multiply_rows<D>(sums, transposed, right + tile * tile_rows * stride<D>);
  }
  store_rows<D>(to.at(b, h), to.row, first, M, sums, {scale, scale});
}

/// All gradients: p again, dv = p^T dy, ds = p (dp - delta) with dp = dy v^T and delta = rowsum(dp
/// p), dq = scale ds k, dk = scale ds^T q, dbias = the sum of ds over the samples of the slice.
__global__ void __launch_bounds__(window_threads, 3)
    backward_kernel(Inputs in, Heads<const bfloat16> dy, AttentionGradients<bfloat16> out, std::int64_t groups,
                    std::int64_t parts) {
  const std::int64_t h = blockIdx.x % in.H;
  const BatchSlice slice(blockIdx.x / in.H, in.B, groups, parts);
  const int first = static_cast<int>(threadIdx.x / warp_threads) * tile_rows;  // of this warp's queries, then keys
  const int N = static_cast<int>(in.N), M = static_cast<int>(in.M);
  const ScoreBias bias(in, slice.group, h, first);
  const SampleRows<4> rows;
  bfloat16 *const p = rows.shared + 8 * matrix_elements, *const ds = p + window_rows * p_stride;
  const auto load = [&](int stage, std::int64_t b) {
    rows.load(stage,
              {{in.q.at(b, h), in.q.row}, {in.k.at(b, h), in.k.row}, {in.v.at(b, h), in.v.row}, {dy.at(b, h), dy.row}},
              {N, M, M, N});
  };
  const auto store = [&](bfloat16* to, const ScoreTiles& x) {
    for_scores(first, [&](int tile, int j, int i, int n, int m) {
      if (i % 2 == 0) store_pair(to + n * p_stride + m, pack_bf16(x[tile][j].x[i], x[tile][j].x[i + 1]));
    });
  };
  ScoreTiles dbias = {};
  for_each_sample(slice, load, [&](int stage, std::int64_t b) {
    const bfloat16 *q_rows = rows.matrix(stage, 0), *k = rows.matrix(stage, 1), *v = rows.matrix(stage, 2),
                   *dy_rows = rows.matrix(stage, 3);
    FragmentA left[D / 16];
    load_left_shared<D>(left, q_rows + first * stride<D>);
    ScoreTiles weights = {}, gradients = {};  // p; dp, then ds
#pragma unroll
    for (int tile = 0; tile < window_tiles; ++tile) {
      multiply_transposed<D>(weights[tile], left, k + tile * tile_rows * stride<D>);
    }
    const WindowSoftmax softmax(weights, bias, in.scale);
    load_left_shared<D>(left, dy_rows + first * stride<D>);
#pragma unroll
    for (int tile = 0; tile < window_tiles; ++tile) {
      multiply_transposed<D>(gradients[tile], left, v + tile * tile_rows * stride<D>);
    }
    const float inverse[2] = {softmax.inverse_sum(0), softmax.inverse_sum(1)};
    float delta[2] = {};
    for_scores(first, [&](int tile, int j, int i, int, int) {
      weights[tile][j].x[i] *= inverse[i / 2];
      delta[i / 2] += weights[tile][j].x[i] * gradients[tile][j].x[i];
    });
    for (float& sum : delta) sum = reduce_over_row(sum, [](float a, float c) { return a + c; });
    for_scores(first, [&](int tile, int j, int i, int, int) {
      float& x = gradients[tile][j].x[i];
      x = weights[tile][j].x[i] * (x - delta[i / 2]);
      dbias[tile][j].x[i] += x;
    });
    store(p, weights);
    store(ds, gradients);
    FragmentC dq[D / 8] = {};
#pragma unroll
    for (int tile = 0; tile < window_tiles; ++tile) {
      multiply_rows<D>(dq, as_left(gradients[tile]), k + tile * tile_rows * stride<D>);
    }
    store_rows<D>(out.dq.at(b, h), out.dq.row, first, N, dq, {in.scale, in.scale});
    block_barrier();  // p and ds of all queries are there
    store_key_rows(out.dv, b, h, first, M, p, dy_rows, 1);
    store_key_rows(out.dk, b, h, first, M, ds, q_rows, in.scale);
  });
  if (!out.dbias.data) return;
  const Bias<float> to = out.dbias.part(slice.part);
  for_scores(first, [&](int tile, int j, int i, int n, int m) {
    if (n < N && m < M) to.at(slice.group, h, n)[m * to.column] = dbias[tile][j].x[i];
  });
}

// ---- Launches ----

/// Whether these kernels can take a call that attention_mma::accepts(). A bias has to be the same
/// for the samples of a group, and its gradient one for each head, query and key.
inline bool accepts(const Inputs& in, const BiasPartials<float>& dbias = {}) {
  const bool sums_samples_only = !dbias.data || (dbias.head != 0 && dbias.row != 0 && dbias.column != 0);
  return in.D == D && in.N <= window_rows && in.M <= window_rows && sums_samples_only;
}

/// How many slices the samples of each of `groups` biases are cut into: about eight blocks for each
/// multiprocessor of a large GPU, so that each reads its bias for as many samples as possible.
inline std::int64_t slices_per_group(const Inputs& in, std::int64_t groups) {
  constexpr std::int64_t blocks = 8 * 132;
  return std::clamp<std::int64_t>(blocks / (groups * in.H), 1, in.B / groups);
}

inline void forward(const Inputs& in, Heads<bfloat16> y, float* logsumexp) {
  const std::int64_t groups = in.bias.data ? in.bias.groups : 1, parts = slices_per_group(in, groups);
  constexpr std::size_t bytes = sizeof(bfloat16) * 2 * 3 * matrix_elements;
  launch(forward_kernel, dim3(static_cast<unsigned>(groups * parts * in.H)), dim3(window_threads), bytes,
         current_stream(), in, y, logsumexp, groups, parts);
}

inline void backward(const Inputs& in, const AttentionSaved<bfloat16>& saved, const AttentionGradients<bfloat16>& out) {
  const std::int64_t groups = in.bias.data ? in.bias.groups : 1;
  const std::int64_t parts = out.dbias.data ? out.dbias.parts : slices_per_group(in, groups);
  constexpr std::size_t bytes = sizeof(bfloat16) * (2 * 4 * matrix_elements + 2 * window_rows * p_stride);
  launch(backward_kernel, dim3(static_cast<unsigned>(groups * parts * in.H)), dim3(window_threads), bytes,
         current_stream(), in, saved.dy, out, groups, parts);
}

}  // namespace vitrine::attention_window
#endif
