// The gradient of attention on tensor cores in one kernel, for heads of 32 or 64 without a bias and
// at most 208 keys: a ViT at 224 pixels has 197.
//
// The two kernels of ops/attention/mma.h compute the scores and dp twice, seven products in all;
// this one needs five. A block has all keys of a head. Each warp owns 16 keys, with their rows of k
// and v and the sums of dk and dv in registers; the queries pass by in blocks of 64. A warp's
// scores are (keys, queries), so that p and ds are left operands of dv = p^T dy and dk = ds^T q as
// they stand. dq = ds k sums over keys, and so over warps: ds of a block of queries goes through
// shared memory, where k stays, and eight warps take 16 queries and half of the columns of dq each.
// While a block of queries is computed, the next one is copied to shared memory.
#pragma once

#include "ops/attention/fragments.h"

#if VT_CUDA
namespace vitrine::attention_mma {

inline constexpr int most_key_tiles = 13;  // 152 registers for each of 416 threads

/// Bytes of shared memory, and what is where: k (keys, D), two blocks of 64 rows of q, dy and y, ds
/// (keys, 64), and log2_sumexp and delta of 64 queries.
template <int D>
struct BackwardMemory {
  static constexpr int block_elements = block_rows * stride<D>;
  int key_rows;  // a multiple of 16
  __host__ __device__ explicit BackwardMemory(std::int64_t M) : key_rows(round_up(static_cast<int>(M), tile_rows)) {}

  __host__ __device__ int queries() const { return key_rows * stride<D>; }
  __host__ __device__ int ds() const { return queries() + 6 * block_elements; }
  __host__ __device__ int statistics() const { return ds() + key_rows * stride<block_rows>; }
  __host__ __device__ std::size_t bytes() const {
    return sizeof(bfloat16) * static_cast<std::size_t>(statistics()) + sizeof(float) * 2 * block_rows;
  }
};

/// The blocks of 64 queries that pass by: their rows of q, dy and y.
template <int D>
struct QueryBlocks {
  Rows q, dy, y;
  int N;
  bfloat16* shared;

  __device__ const bfloat16* q_rows(int block) const { return rows(block, 0); }
  __device__ const bfloat16* dy_rows(int block) const { return rows(block, 1); }
  __device__ const bfloat16* y_rows(int block) const { return rows(block, 2); }
  __device__ int tiles(int block) const {
    const int left = (N - block * block_rows + tile_rows - 1) / tile_rows;
    return left < tiles_per_block ? left : tiles_per_block;
  }

  __device__ void load(int block) const {
    constexpr int pieces = D / 8;  // of 16 bytes
    const int first = block * block_rows;
#pragma unroll 1  // to leave the registers to the sums of the kernel
    for (int i = static_cast<int>(threadIdx.x); i < block_rows * pieces; i += static_cast<int>(blockDim.x)) {
      const int r = i / pieces, d = i % pieces * 8, to = r * stride<D> + d;
      const bool exists = first + r < N;
      cp_async_16(rows(block, 0) + to, q.at(first + r) + d, exists);
      cp_async_16(rows(block, 1) + to, dy.at(first + r) + d, exists);
      cp_async_16(rows(block, 2) + to, y.at(first + r) + d, exists);
    }
  }

 private:
  __device__ bfloat16* rows(int block, int matrix) const {
    return shared + (block % 2 * 3 + matrix) * BackwardMemory<D>::block_elements;
  }
};

/// log2_sumexp (64) and delta (64) = rowsum(dy y) of a block of queries, by all threads.
template <int D>
__device__ void query_statistics(const QueryBlocks<D>& queries, int block, const float* logsumexp, float* to) {
  constexpr int pieces = D / 8;  // lanes that share a row
  for (int i = static_cast<int>(threadIdx.x); i < block_rows * pieces; i += static_cast<int>(blockDim.x)) {
    const int r = i / pieces, at = r * stride<D> + i % pieces * 8;
    float dy[8], y[8], delta = 0;
    load_pack(queries.dy_rows(block) + at, dy);
    load_pack(queries.y_rows(block) + at, y);
#pragma unroll
    for (int d = 0; d < 8; ++d) delta += dy[d] * y[d];
    for (int mask = pieces / 2; mask > 0; mask /= 2) delta += shuffle_xor(delta, mask);
    if (i % pieces == 0) {
      to[r] = log2_sumexp(logsumexp, block * block_rows + r, queries.N);
      to[block_rows + r] = delta;
    }
  }
}

/// dq of a block of queries from its ds (keys, 64) and k. A warp takes 16 queries and half of the
/// columns at a time.
template <int D>
__device__ void query_gradients(const Heads<bfloat16>& dq, std::int64_t b, std::int64_t h, int block, int tiles, int N,
                                const bfloat16* ds, const bfloat16* k, int key_rows, float scale) {
  constexpr int columns = D / 2;
  const int warps = static_cast<int>(blockDim.x) / warp_threads;
  for (int job = static_cast<int>(threadIdx.x) / warp_threads; job < 2 * tiles; job += warps) {
    const int tile = job / 2, column = job % 2 * columns;
    FragmentC sums[columns / 8] = {};
    for (int key = 0; key < key_rows; key += tile_rows) {
      const bfloat16* mine = ds + key * stride<block_rows> + tile * tile_rows;
      multiply_rows<D, columns>(sums, load_left_transposed(mine, stride<block_rows>), k + key * stride<D> + column);
    }
    store_rows<columns>(dq.at(b, h) + column, dq.row, block * block_rows + tile * tile_rows, N, sums, {scale, scale});
  }
}

template <int D>
__global__ void __launch_bounds__(most_key_tiles* warp_threads, 1)
    backward_kernel(Inputs in, AttentionSaved<bfloat16> saved, AttentionGradients<bfloat16> out) {
  const std::int64_t b = blockIdx.x / in.H, h = blockIdx.x % in.H;
  const int N = static_cast<int>(in.N), M = static_cast<int>(in.M);
  const int first = static_cast<int>(threadIdx.x) / warp_threads * tile_rows;  // of this warp's keys
  const BackwardMemory<D> memory(M);
  bfloat16* const keys = dynamic_shared<bfloat16>();
  bfloat16* const ds_rows = keys + memory.ds();
  auto* const statistics = reinterpret_cast<float*>(keys + memory.statistics());
  const QueryBlocks<D> queries{{in.q.at(b, h), in.q.row},
                               {saved.dy.at(b, h), saved.dy.row},
                               {saved.y.at(b, h), saved.y.row},
                               N,
                               keys + memory.queries()};
  const Rows k_rows{in.k.at(b, h), in.k.row};
  for (int i = static_cast<int>(threadIdx.x); i < memory.key_rows * (D / 8); i += static_cast<int>(blockDim.x)) {
    const int r = i / (D / 8), d = i % (D / 8) * 8;
    cp_async_16(keys + r * stride<D> + d, k_rows.at(r) + d, r < M);
  }
  queries.load(0);
  FragmentA k[D / 16], v[D / 16];
  load_left<D>(k, k_rows, first, M);
  load_left<D>(v, {in.v.at(b, h), in.v.row}, first, M);
  const bool exists[2] = {first + group_id() < M, first + group_id() + 8 < M};
  const float unit = in.scale * math::log2_e;
  FragmentC dk[D / 8] = {}, dv[D / 8] = {};
  for (int block = 0; block * block_rows < N; ++block) {
    cp_async_wait();
    block_barrier();  // this block has arrived; the one before it, and its ds, have been read
    if ((block + 1) * block_rows < N) queries.load(block + 1);
    query_statistics(queries, block, saved.logsumexp + (b * in.H + h) * N, statistics);
    block_barrier();
    const int tiles = queries.tiles(block);
    for (int tile = 0; tile < tiles; ++tile) {
      const bfloat16* q = queries.q_rows(block) + tile * tile_rows * stride<D>;
      const bfloat16* dy = queries.dy_rows(block) + tile * tile_rows * stride<D>;
      FragmentC p[2] = {}, ds[2] = {};
      multiply_transposed<D>(p, k, q);
      multiply_transposed<D>(ds, v, dy);
      for_entries([&](int j, int i, int, int column) {
        const float* query = statistics + tile * tile_rows + column;
        p[j].x[i] = exists[i / 2] ? exp2_approx(p[j].x[i] * unit - query[0]) : 0;
        ds[j].x[i] = p[j].x[i] * (ds[j].x[i] - query[block_rows]);
      });
      const FragmentA ds_left = as_left(ds);
      multiply_rows<D>(dv, as_left(p), dy);
      multiply_rows<D>(dk, ds_left, q);
      // The registers of a left operand: rows 0 to 7 and 8 to 15 by columns 0 to 7, then by 8 to
      // 15.
      bfloat16* to = ds_rows + (first + group_id()) * stride<block_rows> + tile * tile_rows + 2 * thread_in_group();
      for (int i = 0; i < 4; ++i) store_pair(to + i % 2 * 8 * stride<block_rows> + i / 2 * 8, ds_left.x[i]);
    }
    block_barrier();  // ds of all keys is there
    query_gradients<D>(out.dq, b, h, block, tiles, N, ds_rows, keys, memory.key_rows, in.scale);
  }
  store_rows<D>(out.dk.at(b, h), out.dk.row, first, M, dk, {in.scale, in.scale});
  store_rows<D>(out.dv.at(b, h), out.dv.row, first, M, dv, {1, 1});
}

/// Whether one kernel can take a call that accepts() for two.
inline bool fits_one_kernel(const Inputs& in) {
  return (in.D == 32 || in.D == 64) && !in.bias.data && in.M <= most_key_tiles * tile_rows;
}

inline void backward_in_one_kernel(const Inputs& in, const AttentionSaved<bfloat16>& saved,
                                   const AttentionGradients<bfloat16>& out) {
  const auto start = [&]<int D>(std::integral_constant<int, D>) {
    const BackwardMemory<D> memory(in.M);
    launch(backward_kernel<D>, dim3(static_cast<unsigned>(in.B * in.H)),
           dim3(static_cast<unsigned>(memory.key_rows / tile_rows * warp_threads)), memory.bytes(), current_stream(),
           in, saved, out);
  };
  if (in.D == 32) {
    start(std::integral_constant<int, 32>());
  } else {
    start(std::integral_constant<int, 64>());
  }
}

}  // namespace vitrine::attention_mma
#endif
