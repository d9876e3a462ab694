// LayerNorm on CUDA. Where a row is short enough, and its elements come in whole packs of 16 bytes,
// the lanes of a warp keep it in registers: each element is read from memory once, in forward and
// in backward, and ahead of time (ops/norm/prefetched_rows.h). A wide row takes the warp, narrow
// ones share it. Other rows are read again for each sum, mostly from the cache.
// From naive to fast, rung by rung: benchmarks/ladders/layer_norm.cu and layer_norm_backward.cu.
#pragma once

#include "ops/drivers/warp.h"
#include "ops/norm/layer_norm_operands.h"
#include "ops/norm/norm_statistics.h"
#include "ops/norm/prefetched_rows.h"
#include "tensor/device/packs.h"
#include "tensor/dtype.h"
#include "tensor/parallel.h"

#if VT_CUDA
namespace vitrine::layer_norm_cuda {

using namespace norm_statistics;
using layer_norm_passes::Backward;
using layer_norm_passes::Forward;
using layer_norm_passes::rows_per_chunk_cuda;
using namespace layer_norm_passes::resident;

// ---- Rows in registers: forward ----

template <class Layout, class C>
__device__ RowStatistics<C> measure_registers(const Values<Layout, C>& values, std::int64_t D, C epsilon) {
  C total = 0, sum = 0, sum_of_squares = 0;
  for_each_pack<Layout>(D, [&](int p, int) {
#pragma unroll
    for (int k = 0; k < Layout::width; ++k) total += values[p][k];
  });
  const C mean = sum_of_row<Layout>(total) / static_cast<C>(D);
  for_each_pack<Layout>(D, [&](int p, int) {
#pragma unroll
    for (int k = 0; k < Layout::width; ++k) {
      const C difference = values[p][k] - mean;
      sum += difference;
      sum_of_squares += difference * difference;
    }
  });
  return row_statistics(mean, sum_of_row<Layout>(sum), sum_of_row<Layout>(sum_of_squares), static_cast<C>(D), epsilon);
}

/// y = n weight + bias.
template <class Layout, class T, class C>
__device__ void write_norm(const Forward<T, C>& f, std::int64_t row, const RowStatistics<C>& s,
                           Values<Layout, C>& values) {
  for_each_pack<Layout>(f.D, [&](int p, int column) {
    C weight[Layout::width], bias[Layout::width];
    load_pack(f.weight + column, weight);
    load_pack(f.bias + column, bias);
#pragma unroll
    for (int k = 0; k < Layout::width; ++k) values[p][k] = s.normalize(values[p][k]) * weight[k] + bias[k];
    store_pack(values[p], f.y + row * f.D + column);
  });
}

/// The row of x, plus that of the residual.
template <class Layout, class T, class C>
__device__ void read_sum(const Forward<T, C>& f, const PrefetchedRows<Layout, 2>& rows, int stage,
                         Values<Layout, C>& values) {
#pragma unroll
  for (int p = 0; p < Layout::packs; ++p) {
    rows.read(stage, 0, p, values[p]);
    if (!f.residual) continue;
    C residual[Layout::width];
    rows.read(stage, 1, p, residual);
#pragma unroll
    for (int k = 0; k < Layout::width; ++k) values[p][k] += residual[k];
  }
}

template <class Layout, class T = typename Layout::Element, class C = Compute<T>>
__global__ void __launch_bounds__(threads_per_block, forward_blocks(Layout::packs))
    forward_in_registers(Forward<T, C> f) {
  const PrefetchedRows<Layout, 2> rows(dynamic_shared<uint4>());
  const auto prefetch = [&](int stage, std::int64_t row) {
    const bool exists = row < f.rows;
    rows.prefetch(stage, 0, f.x + row * f.D, f.D, exists);
    if (f.residual) rows.prefetch(stage, 1, f.residual + row * f.D, f.D, exists);
    return exists;
  };
  const auto compute = [&](int stage, std::int64_t row, bool exists) {
    Values<Layout, C> values;
    read_sum(f, rows, stage, values);
    const auto s = measure_registers<Layout, C>(values, f.D, f.epsilon);
    if (!exists) return;
    if (threadIdx.x % Layout::lanes == 0) write_statistics(s, f.statistics, row, f.rows);
    if (f.sum) {
      for_each_pack<Layout>(f.D, [&](int p, int column) { store_pack(values[p], f.sum + row * f.D + column); });
    }
    write_norm<Layout>(f, row, s, values);
  };
  const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * warps_per_block + threadIdx.y;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * Layout::rows_per_block;
  rows.for_each_row(warp * Layout::rows_per_warp, f.rows, step, prefetch, compute);
}

// ---- Rows in registers: backward ----

/// The columns' sums that a lane gathers over its rows, for dweight and dbias.
template <class Layout, class C>
struct ColumnSums {
  Values<Layout, C> dweight = {}, dbias = {};
};

/// dx (+)= rstd (g - mean(g) - n mean(g n)) with g = dy weight, of one row, where dx is wanted and
/// the row exists. A row that does not is all zeros, and adds nothing to the columns' sums.
template <class Layout, class T, class C>
__device__ void backward_row(const Backward<T, C>& b, const PrefetchedRows<Layout, 3>& rows, int stage,
                             std::int64_t row, bool exists, const RowStatistics<C>& s, ColumnSums<Layout, C>& sums) {
  Values<Layout, C> n, g;
  C sum_g = 0, sum_gn = 0;
  for_each_pack<Layout>(b.D, [&](int p, int column) {
    C weight[Layout::width];
    load_pack(b.weight + column, weight);
    rows.read(stage, 0, p, n[p]);
    rows.read(stage, 1, p, g[p]);
#pragma unroll
    for (int k = 0; k < Layout::width; ++k) {
      n[p][k] = s.normalize(n[p][k]);
      sums.dweight[p][k] += g[p][k] * n[p][k];
      sums.dbias[p][k] += g[p][k];
      g[p][k] *= weight[k];
      sum_g += g[p][k];
      sum_gn += g[p][k] * n[p][k];
    }
  });
  if (!b.dx) return;
  const C mean_g = sum_of_row<Layout>(sum_g) / static_cast<C>(b.D);
  const C mean_gn = sum_of_row<Layout>(sum_gn) / static_cast<C>(b.D);
  for_each_pack<Layout>(exists ? b.D : 0, [&](int p, int column) {
    C dx[Layout::width] = {};
    if (b.add) rows.read(stage, 2, p, dx);
#pragma unroll
    for (int k = 0; k < Layout::width; ++k) dx[k] += s.rstd * (g[p][k] - mean_g - n[p][k] * mean_gn);
    store_pack(dx, b.dx + row * b.D + column);
  });
}

/// Adds up the sums of the lanes that hold the same columns: those of a warp in a tree, then one
/// warp after the other into `dweight` and `dbias` (D), which all threads of the block share.
template <class Layout, class C>
__device__ void join_column_sums(ColumnSums<Layout, C>& sums, C* dweight, C* dbias, std::int64_t D) {
#pragma unroll
  for (int mask = Layout::lanes; mask < warp_threads; mask *= 2) {
#pragma unroll
    for (int p = 0; p < Layout::packs; ++p) {
#pragma unroll
      for (int k = 0; k < Layout::width; ++k) {
        sums.dweight[p][k] += shuffle_xor(sums.dweight[p][k], mask);
        sums.dbias[p][k] += shuffle_xor(sums.dbias[p][k], mask);
      }
    }
  }
  for (int warp = 0; warp < warps_per_block; ++warp) {
    if (static_cast<int>(threadIdx.y) == warp && threadIdx.x < Layout::lanes) {
      for_each_pack<Layout>(D, [&](int p, int column) {
#pragma unroll
        for (int k = 0; k < Layout::width; ++k) {
          dweight[column + k] = (warp > 0 ? dweight[column + k] : 0) + sums.dweight[p][k];
          dbias[column + k] = (warp > 0 ? dbias[column + k] : 0) + sums.dbias[p][k];
        }
      });
    }
    block_barrier();
  }
}

/// One block per chunk of `grain` rows, which its warps take in turn.
template <class Layout, class T = typename Layout::Element, class C = Compute<T>>
__global__ void __launch_bounds__(threads_per_block, backward_blocks(Layout::packs))
    backward_in_registers(Backward<T, C> b, std::int64_t grain) {
  const std::int64_t begin = blockIdx.x * grain, end = begin + grain < b.rows ? begin + grain : b.rows;
  unsigned char* shared = dynamic_shared<unsigned char>();
  const PrefetchedRows<Layout, 3> rows(shared);
  ColumnSums<Layout, C> sums;
  const auto prefetch = [&](int stage, std::int64_t row) {
    const bool exists = row < end;
    rows.prefetch(stage, 0, b.x + row * b.D, b.D, exists);
    rows.prefetch(stage, 1, b.dy + row * b.D, b.D, exists);
    if (b.add) rows.prefetch(stage, 2, b.dx + row * b.D, b.D, exists);
    return exists ? read_statistics(b.statistics, row, b.rows) : RowStatistics<C>{};
  };
  const auto compute = [&](int stage, std::int64_t row, const RowStatistics<C>& statistics) {
    backward_row(b, rows, stage, row, row < end, statistics, sums);
  };
  rows.for_each_row(begin + threadIdx.y * Layout::rows_per_warp, end, Layout::rows_per_block, prefetch, compute);

  C *dweight = reinterpret_cast<C*>(shared + rows.bytes), *dbias = dweight + b.D;  // (2, D)
  join_column_sums(sums, dweight, dbias, b.D);
  for (std::int64_t i = threadIdx.y * warp_threads + threadIdx.x; i < 2 * b.D; i += threads_per_block) {
    b.partial[blockIdx.x * 2 * b.D + i] = dweight[i];
  }
}

// ---- Rows of any length ----

template <class T, class C = Compute<T>>
__global__ void forward_any(Forward<T, C> f) {
  for_each_row_of_grid(f.rows, [&](std::int64_t row) {
    const T *in = f.x + row * f.D, *residual = f.residual ? f.residual + row * f.D : nullptr;
    T* out = f.y + row * f.D;
    const auto value = [&](std::int64_t i) {
      return residual ? static_cast<C>(in[i]) + static_cast<C>(residual[i]) : static_cast<C>(in[i]);
    };
    const C D = static_cast<C>(f.D);
    const C mean = warp_sum<C>(f.D, value) / D;
    const C sum = warp_sum<C>(f.D, [&](std::int64_t i) { return value(i) - mean; });
    const C sum_of_squares = warp_sum<C>(f.D, [&](std::int64_t i) {
      const C difference = value(i) - mean;
      return difference * difference;
    });
    const auto s = row_statistics(mean, sum, sum_of_squares, D, f.epsilon);
    if (threadIdx.x == 0) write_statistics(s, f.statistics, row, f.rows);
    warp_for(f.D, [&](std::int64_t i) {
      const C x = value(i);
      if (residual) f.sum[row * f.D + i] = static_cast<T>(x);
      out[i] = static_cast<T>(s.normalize(x) * f.weight[i] + f.bias[i]);
    });
  });
}

template <class T, class C = Compute<T>>
__global__ void backward_dx_any(Backward<T, C> b) {
  for_each_row_of_grid(b.rows, [&](std::int64_t row) {
    const auto s = read_statistics(b.statistics, row, b.rows);
    const T *in = b.x + row * b.D, *dout = b.dy + row * b.D;
    T* din = b.dx + row * b.D;
    const auto g = [&](std::int64_t i) { return static_cast<C>(dout[i]) * b.weight[i]; };
    const auto n = [&](std::int64_t i) { return s.normalize(static_cast<C>(in[i])); };
    const C mean_g = warp_sum<C>(b.D, g) / static_cast<C>(b.D);
    const C mean_gn = warp_sum<C>(b.D, [&](std::int64_t i) { return g(i) * n(i); }) / static_cast<C>(b.D);
    warp_for(b.D, [&](std::int64_t i) {
      const C before = b.add ? static_cast<C>(din[i]) : 0;
      din[i] = static_cast<T>(before + s.rstd * (g(i) - mean_g - n(i) * mean_gn));
    });
  });
}

/// One thread per column of a chunk of rows.
template <class T, class C = Compute<T>>
__global__ void backward_columns_any(Backward<T, C> b, std::int64_t grain) {
  const std::int64_t items = (b.rows + grain - 1) / grain * b.D;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < items;
       item += step) {
    const std::int64_t chunk = item / b.D, i = item % b.D, begin = chunk * grain;
    const std::int64_t end = begin + grain < b.rows ? begin + grain : b.rows;
    C dweight = 0, dbias = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      const C dy_i = static_cast<C>(b.dy[row * b.D + i]);
      dweight += dy_i * read_statistics(b.statistics, row, b.rows).normalize(static_cast<C>(b.x[row * b.D + i]));
      dbias += dy_i;
    }
    b.partial[chunk * 2 * b.D + i] = dweight;
    b.partial[chunk * 2 * b.D + b.D + i] = dbias;
  }
}

// ---- Which kernel ----

inline constexpr std::size_t largest_pack = 32;  // bytes: the eight factors of type float for a pack of bf16

/// Calls body.operator()<Layout>() with the narrowest layout that holds a row of D elements; false
/// where none does. The pairs are those of `packs_per_lane`; 48 elements, in each of backward's
/// four arrays, are what fits in the registers of a thread.
template <class T, class Body>
bool with_layout(std::int64_t D, const Body& body) {
  if (sizeof(T) > 4 || D % pack_width<T> != 0) return false;
  const std::int64_t row_packs = D / pack_width<T>;
  const auto try_layout = [&]<int lanes, int packs>() {
    if constexpr (sizeof(T) <= 4 && packs * pack_width<T> <= 48) {
      if (row_packs <= lanes * packs) return body.template operator()<RowLayout<T, lanes, packs>>(), true;
    }
    return false;
  };
  return try_layout.template operator()<4, 2>() || try_layout.template operator()<4, 3>() ||
         try_layout.template operator()<8, 2>() || try_layout.template operator()<8, 3>() ||
         try_layout.template operator()<16, 2>() || try_layout.template operator()<16, 3>() ||
         try_layout.template operator()<32, 2>() || try_layout.template operator()<32, 3>() ||
         try_layout.template operator()<32, 4>() || try_layout.template operator()<32, 6>() ||
         try_layout.template operator()<32, 8>() || try_layout.template operator()<32, 12>();
}

template <class T, class C = Compute<T>>
void forward(const Forward<T, C>& f) {
  if (f.rows == 0) return;
  const bool done =
      are_aligned(largest_pack, f.x, f.residual, f.sum, f.weight, f.bias, f.y) &&
      with_layout<T>(f.D, [&]<class Layout>() {
        const std::int64_t blocks =
            std::min(multiprocessors * forward_blocks(Layout::packs), chunk_count(f.rows, Layout::rows_per_block));
        launch(forward_in_registers<Layout>, dim3(static_cast<unsigned>(blocks)), dim3(warp_threads, warps_per_block),
               PrefetchedRows<Layout, 2>::bytes, current_stream(), f);
      });
  if (!done) launch_rows(forward_any<T>, f.rows, f);
}

template <class T, class C = Compute<T>>
void backward(const Backward<T, C>& b) {
  if (b.rows == 0) return;
  const std::int64_t grain = rows_per_chunk_cuda<T>(b.rows, b.D), chunks = chunk_count(b.rows, grain);
  const bool done = are_aligned(largest_pack, b.x, b.weight, b.dy, b.dx) && with_layout<T>(b.D, [&]<class Layout>() {
                      const std::size_t shared_bytes =
                          PrefetchedRows<Layout, 3>::bytes + 2 * static_cast<std::size_t>(b.D) * sizeof(C);
                      launch(backward_in_registers<Layout>, dim3(static_cast<unsigned>(chunks)),
                             dim3(warp_threads, warps_per_block), shared_bytes, current_stream(), b, grain);
                    });
  if (done) return;
  if (b.dx) launch_rows(backward_dx_any<T>, b.rows, b);
  launch(backward_columns_any<T>, grid_for(chunks * b.D, 128), dim3(128), 0, current_stream(), b, grain);
}

}  // namespace vitrine::layer_norm_cuda
#endif
