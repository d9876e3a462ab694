// Attention on CUDA, the clear version: every dtype and layout, heads of up to D = 256. The fast
// version for bf16 is ops/attention/mma.h; benchmarks/ladders/attention.cu leads from a naive
// kernel to both.
//
// Scores exist one tile at a time, a few queries by as many keys, in registers and shared memory.
// Forward reads the keys tile by tile and keeps for each query the largest score so far (row_max),
// the sum of e^(score - row_max) (row_sum) and the sum of e^(score - row_max) v; when a larger
// score comes along, both sums are scaled down to it ("online softmax": Milakov and Gimelshein
// 2018, Dao et al. 2022). Backward computes the scores again: one kernel for dq, whose blocks own
// queries, one for dk and dv, whose blocks own keys, one for dbias. Each sum is added up by one
// block, in order, so no result depends on the scheduler.
#pragma once

#include <limits>
#include <type_traits>

#include "ops/attention/operands.h"
#include "ops/drivers/lanes.h"
#include "ops/drivers/math.h"
#include "ops/drivers/warp.h"

#if VT_CUDA
namespace vitrine::attention_cuda {

/// A block is side x side threads. Of every tile, thread (x, y) computes the entries in rows y, y +
/// side, y + 2 side, ... and columns x, x + side, ...: the threads of one row are half a warp.
inline constexpr int side = 16;

/// Sizes of the tiles for the compute type C and heads of D <= width. Two tiles of (rows, width)
/// and two of (rows, rows) are in shared memory. Their rows are padded by one element, so that 16
/// threads that read down a column read 16 different banks.
template <class C, int width>
struct Tiles {
  static constexpr int rows = sizeof(C) * width > 1024 ? 16 : 32;  // at most 84 KiB: every GPU since sm_80 has that
  static constexpr int stride = width + 1, score_stride = rows + 1;
  static constexpr int own_rows = rows / side, own_columns = width / side;  // what one thread computes
  static constexpr std::size_t shared_bytes = sizeof(C) * 2 * rows * (stride + score_stride);

  // `left` has rows of q or dy, `right` rows of k or v; p and ds are (queries, keys).
  C* left = dynamic_shared<C>();
  C* right = left + rows * stride;
  C* p = right + rows * stride;
  C* ds = p + rows * score_stride;

  static __host__ __device__ std::int64_t count(std::int64_t length) { return (length + rows - 1) / rows; }
  /// Number of rows of the tile at `first` that lie within `length`.
  static __device__ int present(std::int64_t first, std::int64_t length) {
    return first + rows < length ? rows : static_cast<int>(length - first);
  }

  /// tile = rows first, first + 1, ... of x (length, D), with zeros beyond the length and beyond D.
  template <class T>
  __device__ void load(C* tile, const T* x, std::int64_t row_stride, std::int64_t first, std::int64_t length,
                       std::int64_t D) const {
    for (int i = static_cast<int>(threadIdx.y * side + threadIdx.x); i < rows * width; i += side * side) {
      const int r = i / width, d = i % width;
      const bool inside = first + r < length && d < D;
      tile[r * stride + d] = inside ? static_cast<C>(x[(first + r) * row_stride + d]) : C(0);
    }
  }
};

/// The rows, or columns, of a tile that belong to this thread: call body(i, i-th row).
template <int count, class Body>
__device__ void for_own(unsigned first, const Body& body) {
#pragma unroll
  for (int i = 0; i < count; ++i) body(i, static_cast<int>(first) + side * i);
}

/// sums(row, column) += a(row, k) b(k, column) for all k below depth, for the entries of this
/// thread.
template <int rows, int columns, class C, class A, class B>
__device__ void multiply_add(C (&sums)[rows][columns], int depth, const A& a, const B& b) {
  for (int k = 0; k < depth; ++k) {
    C left[rows], right[columns];
    for_own<rows>(threadIdx.y, [&](int i, int row) { left[i] = a(row, k); });
    for_own<columns>(threadIdx.x, [&](int j, int column) { right[j] = b(k, column); });
#pragma unroll
    for (int i = 0; i < rows; ++i) {
#pragma unroll
      for (int j = 0; j < columns; ++j) sums[i][j] += left[i] * right[j];
    }
  }
}

/// Combines the `value`s of the 16 threads that share a row; each of them gets the result.
template <class C, class Combine>
__device__ C reduce_over_row(C value, const Combine& combine) {
  for (int mask = side / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  return value;
}

/// The tile of rows that a block computes, from row `first` of head h of sample b on. Blocks are
/// numbered by sample, then head, then tile.
struct BlockTile {
  std::int64_t b, h, first;
  __device__ BlockTile(std::int64_t H, std::int64_t tiles, int rows)
      : b(blockIdx.x / (tiles * H)), h(blockIdx.x / tiles % H), first(blockIdx.x % tiles * rows) {}
};

/// scores = scale q k^T + bias for this thread's entries of a tile; -infinity for keys beyond the
/// last.
template <class L, class T, class C>
__device__ void tile_scores(const L& tiles, const AttentionInputs<T>& in, std::int64_t b, std::int64_t h,
                            std::int64_t query, std::int64_t key, C (&scores)[L::own_rows][L::own_rows]) {
  multiply_add(
      scores, static_cast<int>(in.D), [&](int row, int d) { return tiles.left[row * L::stride + d]; },
      [&](int d, int column) { return tiles.right[column * L::stride + d]; });
  for_own<L::own_rows>(threadIdx.y, [&](int i, int row) {
    for_own<L::own_rows>(threadIdx.x, [&](int j, int column) {
      const std::int64_t n = query + row, m = key + column;
      scores[i][j] *= in.scale;
      if (in.bias.data && n < in.N && m < in.M) {
        scores[i][j] += static_cast<C>(in.bias.at(b, h, n)[m * in.bias.column]);
      }
      if (m >= in.M) scores[i][j] = -std::numeric_limits<C>::infinity();
    });
  });
}

// ---- Forward ----

/// One block per tile of queries. y (B, H, N, D), logsumexp (B, H, N).
template <class T, int width, class C = Compute<T>>
__global__ void attention_kernel(AttentionInputs<T> in, Heads<T> y, C* logsumexp) {
  using L = Tiles<C, width>;
  constexpr C infinity = std::numeric_limits<C>::infinity();
  const L tiles;
  const BlockTile at(in.H, L::count(in.N), L::rows);
  C row_max[L::own_rows], row_sum[L::own_rows] = {}, sums[L::own_rows][L::own_columns] = {};
  for (C& value : row_max) value = -infinity;
  tiles.load(tiles.left, in.q.at(at.b, at.h), in.q.row, at.first, in.N, in.D);
  for (std::int64_t key = 0; key < in.M; key += L::rows) {
    block_barrier();  // the last tile of v has been read
    tiles.load(tiles.right, in.k.at(at.b, at.h), in.k.row, key, in.M, in.D);
    block_barrier();
    C scores[L::own_rows][L::own_rows] = {};
    tile_scores(tiles, in, at.b, at.h, at.first, key, scores);
    block_barrier();  // k has been read
    tiles.load(tiles.right, in.v.at(at.b, at.h), in.v.row, key, in.M, in.D);
    for_own<L::own_rows>(threadIdx.y, [&](int i, int row) {
      if (at.first + row / 2 * 2 >= in.N) return;  // neither this query nor the other one of this warp exists
      C new_max = row_max[i], tile_sum = 0;
      for (const C score : scores[i]) new_max = larger(new_max, score);
      new_max = reduce_over_row(new_max, [](C a, C c) { return larger(a, c); });
      const C base = new_max == -infinity ? C(0) : new_max;  // all keys so far are masked: e^(-infinity - 0) = 0
      const C factor = math::exp(row_max[i] - base);
      for_own<L::own_rows>(threadIdx.x, [&](int j, int column) {
        const C weight = math::exp(scores[i][j] - base);
        tile_sum += weight;
        tiles.p[row * L::score_stride + column] = weight;
      });
      row_sum[i] = row_sum[i] * factor + reduce_over_row(tile_sum, [](C a, C c) { return a + c; });
      for (C& sum : sums[i]) sum *= factor;
      row_max[i] = new_max;
    });
    block_barrier();
    multiply_add(
        sums, L::present(key, in.M), [&](int row, int k) { return tiles.p[row * L::score_stride + k]; },
        [&](int k, int column) { return tiles.right[k * L::stride + column]; });
  }
  for_own<L::own_rows>(threadIdx.y, [&](int i, int row) {
    const std::int64_t n = at.first + row;
    if (n >= in.N) return;
    if (threadIdx.x == 0) logsumexp[(at.b * in.H + at.h) * in.N + n] = row_max[i] + math::log(row_sum[i]);
    const C scale = row_sum[i] == 0 ? C(0) : 1 / row_sum[i];  // 0 where every key is masked
    for_own<L::own_columns>(threadIdx.x, [&](int j, int column) {
      if (column < in.D) y.at(at.b, at.h, n)[column] = static_cast<T>(sums[i][j] * scale);
    });
  });
}

// ---- Backward ----
// p = e^(scores - logsumexp), dp = dy v^T, ds = p (dp - delta) with delta = rowsum(dy y).

/// delta (B, H, N) = rowsum(dy y), by one warp per row.
template <class T, class C = Compute<T>>
__global__ void delta_kernel(AttentionInputs<T> in, AttentionSaved<T> saved, C* delta) {
  for_each_row_of_grid(in.B * in.H * in.N, [&](std::int64_t row) {
    const std::int64_t b = row / (in.H * in.N), h = row / in.N % in.H, n = row % in.N;
    const T *y = saved.y.at(b, h, n), *dy = saved.dy.at(b, h, n);
    const C sum = warp_sum<C>(in.D, [&](std::int64_t d) { return static_cast<C>(y[d]) * static_cast<C>(dy[d]); });
    if (threadIdx.x == 0) delta[row] = sum;
  });
}

/// tiles.p and tiles.ds for the queries and keys from `query` and `key` on; leaves dy in
/// tiles.left, v in tiles.right.
template <class L, class T, class C>
__device__ void tile_gradients(const L& tiles, const AttentionInputs<T>& in, const AttentionSaved<T>& saved,
                               const C* delta, std::int64_t b, std::int64_t h, std::int64_t query, std::int64_t key) {
  block_barrier();  // the last tiles have been read
  tiles.load(tiles.left, in.q.at(b, h), in.q.row, query, in.N, in.D);
  tiles.load(tiles.right, in.k.at(b, h), in.k.row, key, in.M, in.D);
  block_barrier();
  C scores[L::own_rows][L::own_rows] = {}, dp[L::own_rows][L::own_rows] = {};
  tile_scores(tiles, in, b, h, query, key, scores);
  block_barrier();
  tiles.load(tiles.left, saved.dy.at(b, h), saved.dy.row, query, in.N, in.D);
  tiles.load(tiles.right, in.v.at(b, h), in.v.row, key, in.M, in.D);
  block_barrier();
  multiply_add(
      dp, static_cast<int>(in.D), [&](int row, int d) { return tiles.left[row * L::stride + d]; },
      [&](int d, int column) { return tiles.right[column * L::stride + d]; });
  for_own<L::own_rows>(threadIdx.y, [&](int i, int row) {
    const std::int64_t n = (b * in.H + h) * in.N + query + row;
    const bool exists = query + row < in.N;
    const C logsumexp = exists ? saved.logsumexp[n] : C(0), row_delta = exists ? delta[n] : C(0);
    const bool is_masked = !exists || logsumexp == -std::numeric_limits<C>::infinity();
    for_own<L::own_rows>(threadIdx.x, [&](int j, int column) {
      const C p = is_masked ? C(0) : math::exp(scores[i][j] - logsumexp);
      tiles.p[row * L::score_stride + column] = p;
      tiles.ds[row * L::score_stride + column] = p * (dp[i][j] - row_delta);
    });
  });
  block_barrier();
}

/// to (length, D), rows first, first + 1, ... = scale sums.
template <class L, class T, class C>
__device__ void store_rows(T* to, std::int64_t row_stride, std::int64_t first, std::int64_t length, std::int64_t D,
                           C scale, const C (&sums)[L::own_rows][L::own_columns]) {
  for_own<L::own_rows>(threadIdx.y, [&](int i, int row) {
    for_own<L::own_columns>(threadIdx.x, [&](int j, int column) {
      if (first + row < length && column < D) {
        to[(first + row) * row_stride + column] = static_cast<T>(scale * sums[i][j]);
      }
    });
  });
}

/// dq = scale ds k, one block per tile of queries.
template <class T, int width, class C = Compute<T>>
__global__ void attention_dq_kernel(AttentionInputs<T> in, AttentionSaved<T> saved, const C* delta, Heads<T> dq) {
  using L = Tiles<C, width>;
  const L tiles;
  const BlockTile at(in.H, L::count(in.N), L::rows);
  C sums[L::own_rows][L::own_columns] = {};
  for (std::int64_t key = 0; key < in.M; key += L::rows) {
    tile_gradients(tiles, in, saved, delta, at.b, at.h, at.first, key);
    tiles.load(tiles.right, in.k.at(at.b, at.h), in.k.row, key, in.M, in.D);
    block_barrier();
    multiply_add(
        sums, L::present(key, in.M), [&](int row, int k) { return tiles.ds[row * L::score_stride + k]; },
        [&](int k, int column) { return tiles.right[k * L::stride + column]; });
  }
  store_rows<L>(dq.at(at.b, at.h), dq.row, at.first, in.N, in.D, in.scale, sums);
}

/// dk = scale ds^T q and dv = p^T dy, one block per tile of keys.
template <class T, int width, class C = Compute<T>>
__global__ void attention_dkdv_kernel(AttentionInputs<T> in, AttentionSaved<T> saved, const C* delta, Heads<T> dk,
                                      Heads<T> dv) {
  using L = Tiles<C, width>;
  const L tiles;
  const BlockTile at(in.H, L::count(in.M), L::rows);
  C dk_sums[L::own_rows][L::own_columns] = {}, dv_sums[L::own_rows][L::own_columns] = {};
  const auto left = [&](int k, int column) { return tiles.left[k * L::stride + column]; };
  for (std::int64_t query = 0; query < in.N; query += L::rows) {
    tile_gradients(tiles, in, saved, delta, at.b, at.h, query, at.first);
    const int present = L::present(query, in.N);
    multiply_add(
        dv_sums, present, [&](int row, int k) { return tiles.p[k * L::score_stride + row]; }, left);
    block_barrier();  // dy has been read
    tiles.load(tiles.left, in.q.at(at.b, at.h), in.q.row, query, in.N, in.D);
    block_barrier();
    multiply_add(
        dk_sums, present, [&](int row, int k) { return tiles.ds[k * L::score_stride + row]; }, left);
  }
  store_rows<L>(dk.at(at.b, at.h), dk.row, at.first, in.M, in.D, in.scale, dk_sums);
  store_rows<L>(dv.at(at.b, at.h), dv.row, at.first, in.M, in.D, C(1), dv_sums);
}

/// The indices begin, begin + 1, ..., end - 1 of one dimension.
struct Range {
  std::int64_t begin, end;
};

/// The indices of a dimension of size `extent` that a block of the dbias kernel adds up: all of
/// them where the bias is broadcast, else the `step` of them that its number says. `block` is
/// divided by the number of such ranges, which leaves the number of the block in the remaining
/// dimensions.
__device__ inline Range take_range(std::int64_t& block, bool is_broadcast, std::int64_t extent, std::int64_t step) {
  if (is_broadcast) return {0, extent};
  const std::int64_t count = (extent + step - 1) / step, first = block % count * step;
  block /= count;
  return {first, first + step < extent ? first + step : extent};
}

/// The bias's gradient: ds, added up over the dimensions in which the bias is broadcast (stride 0
/// in dbias), in one partial sum for each slice of the batch. One block per tile of each partial
/// sum.
template <class T, int width, class C = Compute<T>>
__global__ void attention_dbias_kernel(AttentionInputs<T> in, AttentionSaved<T> saved, const C* delta,
                                       BiasPartials<C> dbias) {
  using L = Tiles<C, width>;
  const L tiles;
  std::int64_t block = blockIdx.x;
  const Range keys = take_range(block, dbias.column == 0, in.M, L::rows);
  const Range queries = take_range(block, dbias.row == 0, in.N, L::rows);
  const Range heads = take_range(block, dbias.head == 0, in.H, 1);
  const BatchSlice slice(block, in.B, dbias.groups, dbias.parts);  // what the other dimensions left of `block`
  C sums[L::own_rows][L::own_rows] = {};
  for (std::int64_t i = slice.begin; i < slice.end; ++i) {
    const std::int64_t b = slice.sample(i);
    for (std::int64_t h = heads.begin; h < heads.end; ++h) {
      for (std::int64_t query = queries.begin; query < queries.end; query += L::rows) {
        for (std::int64_t key = keys.begin; key < keys.end; key += L::rows) {
          tile_gradients(tiles, in, saved, delta, b, h, query, key);
          for_own<L::own_rows>(threadIdx.y, [&](int r, int row) {
            for_own<L::own_rows>(threadIdx.x,
                                 [&](int c, int column) { sums[r][c] += tiles.ds[row * L::score_stride + column]; });
          });
        }
      }
    }
  }
  block_barrier();
  for_own<L::own_rows>(threadIdx.y, [&](int i, int row) {
    for_own<L::own_rows>(threadIdx.x, [&](int j, int column) { tiles.p[row * L::score_stride + column] = sums[i][j]; });
  });
  block_barrier();
  // Where the bias is broadcast over queries or keys, the rows or columns of the tile are added up
  // too.
  const int rows_of_cell = dbias.row == 0 ? L::rows : 1, columns_of_cell = dbias.column == 0 ? L::rows : 1;
  const int cell_rows = L::rows / rows_of_cell, cell_columns = L::rows / columns_of_cell;
  C* to = dbias.part(slice.part).at(slice.group, heads.begin, queries.begin) + keys.begin * dbias.column;
  for (int i = static_cast<int>(threadIdx.y * side + threadIdx.x); i < cell_rows * cell_columns; i += side * side) {
    const int row = i / cell_columns, column = i % cell_columns;
    C sum = 0;
    for (int r = row * rows_of_cell; r < (row + 1) * rows_of_cell; ++r) {
      for (int c = column * columns_of_cell; c < (column + 1) * columns_of_cell; ++c) {
        sum += tiles.p[r * L::score_stride + c];
      }
    }
    const bool inside =
        (dbias.row == 0 || queries.begin + row < in.N) && (dbias.column == 0 || keys.begin + column < in.M);
    if (inside) to[row * dbias.row + column * dbias.column] = sum;
  }
}

// ---- Launches ----

/// Calls body(width) with the narrowest tiles that hold rows of D elements.
template <class Body>
void with_width(std::int64_t D, const Body& body) {
  if (D <= 64) {
    body(std::integral_constant<int, 64>());
  } else if (D <= 128) {
    body(std::integral_constant<int, 128>());
  } else {
    body(std::integral_constant<int, largest_head_on_cuda>());
  }
}

template <class... Parameters, class... Arguments>
void launch_tiles(void (*kernel)(Parameters...), std::int64_t blocks, std::size_t shared_bytes,
                  Arguments... arguments) {
  launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(side, side), shared_bytes, current_stream(), arguments...);
}

template <class T>
void forward(const AttentionInputs<T>& in, Heads<T> y, Compute<T>* logsumexp) {
  with_width(in.D, [&]<int width>(std::integral_constant<int, width>) {
    using L = Tiles<Compute<T>, width>;
    launch_tiles(attention_kernel<T, width>, in.B * in.H * L::count(in.N), L::shared_bytes, in, y, logsumexp);
  });
}

/// Fills dbias. `delta` (B, H, N) = rowsum(dy y) must be computed already.
template <class T>
void bias_gradient(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, const BiasPartials<Compute<T>>& dbias,
                   const Compute<T>* delta) {
  with_width(in.D, [&]<int width>(std::integral_constant<int, width>) {
    using L = Tiles<Compute<T>, width>;
    const std::int64_t tiles = (dbias.column == 0 ? 1 : L::count(in.M)) * (dbias.row == 0 ? 1 : L::count(in.N));
    const std::int64_t matrices = (dbias.head == 0 ? 1 : in.H) * dbias.groups * dbias.parts;
    launch_tiles(attention_dbias_kernel<T, width>, tiles * matrices, L::shared_bytes, in, saved, delta, dbias);
  });
}

/// `delta` (B, H, N) is scratch memory.
template <class T>
void backward(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, const AttentionGradients<T>& out,
              Compute<T>* delta) {
  launch_rows(delta_kernel<T>, in.B * in.H * in.N, in, saved, delta);
  with_width(in.D, [&]<int width>(std::integral_constant<int, width>) {
    using L = Tiles<Compute<T>, width>;
    const std::int64_t heads = in.B * in.H;
    launch_tiles(attention_dq_kernel<T, width>, heads * L::count(in.N), L::shared_bytes, in, saved, delta, out.dq);
    launch_tiles(attention_dkdv_kernel<T, width>, heads * L::count(in.M), L::shared_bytes, in, saved, delta, out.dk,
                 out.dv);
  });
  if (out.dbias.data) bias_gradient(in, saved, out.dbias, delta);
}

}  // namespace vitrine::attention_cuda
#endif
