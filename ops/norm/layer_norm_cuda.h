// LayerNorm on CUDA. One warp takes a row. Where a row is short enough, and its elements come in
// whole packs of 16 bytes, the warp keeps it in registers: each element is read from memory once,
// in forward and in backward. Other rows are read again for each sum, mostly from the cache.
// From naive to fast, rung by rung: benchmarks/ladders/layer_norm.cu and layer_norm_backward.cu.
#pragma once

#include "ops/drivers/warp.h"
#include "ops/norm/layer_norm_operands.h"
#include "ops/norm/norm_statistics.h"
#include "tensor/device/packs.h"
#include "tensor/dtype.h"
#include "tensor/parallel.h"

#if VT_CUDA
namespace vitrine::layer_norm_cuda {

using namespace norm_statistics;
using layer_norm_passes::Backward;
using layer_norm_passes::Forward;
using layer_norm_passes::rows_per_chunk_cuda;

// ---- A row in registers: lane l has the packs l, l + 32, ... of `width` neighbours ----

/// Calls body(p, column) for the lane's packs that lie within the row of D elements.
template <class T, int packs, class Body>
__device__ void for_each_pack(std::int64_t D, const Body& body) {
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const std::int64_t column = (static_cast<std::int64_t>(p) * warp_threads + threadIdx.x) * pack_width<T>;
    if (column < D) body(p, column);
  }
}

template <class C>
__device__ C sum_of_warp(C value) {
  return warp_reduce(value, [](C a, C b) { return a + b; });
}

/// Adds the residual to the row in registers, and writes the sum.
template <class T, int packs, class C>
__device__ void add_residual(const Forward<T, C>& f, std::int64_t row, C (&values)[packs][pack_width<T>]) {
  for_each_pack<T, packs>(f.D, [&](int p, std::int64_t column) {
    C residual[pack_width<T>];
    load_pack(f.residual + row * f.D + column, residual);
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) values[p][k] += residual[k];
    store_pack(values[p], f.sum + row * f.D + column);
  });
}

template <class T, int packs, class C = Compute<T>>
__device__ RowStatistics<C> measure_registers(const C (&values)[packs][pack_width<T>], std::int64_t D, C epsilon) {
  C total = 0, sum = 0, sum_of_squares = 0;
  for_each_pack<T, packs>(D, [&](int p, std::int64_t) {
    for (int k = 0; k < pack_width<T>; ++k) total += values[p][k];
  });
  const C mean = sum_of_warp(total) / static_cast<C>(D);
  for_each_pack<T, packs>(D, [&](int p, std::int64_t) {
    for (int k = 0; k < pack_width<T>; ++k) {
      const C difference = values[p][k] - mean;
      sum += difference;
      sum_of_squares += difference * difference;
    }
  });
  return row_statistics(mean, sum_of_warp(sum), sum_of_warp(sum_of_squares), static_cast<C>(D), epsilon);
}

template <class T, int packs, class C = Compute<T>>
__global__ void forward_in_registers(Forward<T, C> f) {
  for_each_row_of_grid(f.rows, [&](std::int64_t row) {
    C values[packs][pack_width<T>];
    for_each_pack<T, packs>(f.D, [&](int p, std::int64_t column) { load_pack(f.x + row * f.D + column, values[p]); });
    if (f.residual) add_residual<T, packs>(f, row, values);
    const auto s = measure_registers<T, packs>(values, f.D, f.epsilon);
    if (threadIdx.x == 0) write_statistics(s, f.statistics, row, f.rows);
    for_each_pack<T, packs>(f.D, [&](int p, std::int64_t column) {
      C weight[pack_width<T>], bias[pack_width<T>];
      load_pack(f.weight + column, weight);
      load_pack(f.bias + column, bias);
#pragma unroll
      for (int k = 0; k < pack_width<T>; ++k) values[p][k] = s.normalize(values[p][k]) * weight[k] + bias[k];
      store_pack(values[p], f.y + row * f.D + column);
    });
  });
}

/// The columns' sums that a warp gathers over its rows, for dweight and dbias.
template <class T, int packs, class C>
struct ColumnSums {
  C dweight[packs][pack_width<T>] = {}, dbias[packs][pack_width<T>] = {};
};

/// One row of the backward pass: dx = rstd (g - mean(g) - n mean(g n)) with g = dy weight.
template <class T, int packs, class C>
__device__ void backward_row(const Backward<T, C>& b, std::int64_t row, ColumnSums<T, packs, C>& sums) {
  const auto s = read_statistics(b.statistics, row, b.rows);
  C n[packs][pack_width<T>], g[packs][pack_width<T>], sum_g = 0, sum_gn = 0;
  for_each_pack<T, packs>(b.D, [&](int p, std::int64_t column) {
    C weight[pack_width<T>];
    load_pack(b.x + row * b.D + column, n[p]);
    load_pack(b.dy + row * b.D + column, g[p]);
    load_pack(b.weight + column, weight);
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) {
      n[p][k] = s.normalize(n[p][k]);
      sums.dweight[p][k] += g[p][k] * n[p][k];
      sums.dbias[p][k] += g[p][k];
      g[p][k] *= weight[k];
      sum_g += g[p][k];
      sum_gn += g[p][k] * n[p][k];
    }
  });
  if (!b.dx) return;
  const C mean_g = sum_of_warp(sum_g) / static_cast<C>(b.D), mean_gn = sum_of_warp(sum_gn) / static_cast<C>(b.D);
  for_each_pack<T, packs>(b.D, [&](int p, std::int64_t column) {
    C dx[pack_width<T>] = {};
    if (b.add) load_pack(b.dx + row * b.D + column, dx);
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) dx[k] += s.rstd * (g[p][k] - mean_g - n[p][k] * mean_gn);
    store_pack(dx, b.dx + row * b.D + column);
  });
}

/// One block per chunk of rows, in which warp w takes every fourth row from w on. Then the warps'
/// sums are added in order.
template <class T, int packs, class C = Compute<T>>
__global__ void backward_in_registers(Backward<T, C> b, std::int64_t grain) {
  const std::int64_t begin = blockIdx.x * grain, end = begin + grain < b.rows ? begin + grain : b.rows;
  ColumnSums<T, packs, C> sums;
  for (std::int64_t row = begin + threadIdx.y; row < end; row += warps_per_block) backward_row(b, row, sums);

  C *dweight = dynamic_shared<C>(), *dbias = dweight + b.D;  // (2, D)
  for (int warp = 0; warp < warps_per_block; ++warp) {
    if (static_cast<int>(threadIdx.y) == warp) {
      for_each_pack<T, packs>(b.D, [&](int p, std::int64_t column) {
        for (int k = 0; k < pack_width<T>; ++k) {
          dweight[column + k] = (warp > 0 ? dweight[column + k] : 0) + sums.dweight[p][k];
          dbias[column + k] = (warp > 0 ? dbias[column + k] : 0) + sums.dbias[p][k];
        }
      });
    }
    block_barrier();
  }
  for (std::int64_t i = threadIdx.y * warp_threads + threadIdx.x; i < 2 * b.D; i += warp_threads * warps_per_block) {
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

/// Calls body.operator()<packs>() with the least number of packs per lane that holds a row; false
/// where none does. 48 elements of a row, in each of backward's four arrays, are what fits in the
/// registers of a thread.
template <class T, class Body>
bool with_packs(std::int64_t D, const Body& body) {
  if constexpr (sizeof(T) > 4) {
    return false;
  } else {
    const std::int64_t needed = (D / pack_width<T> + warp_threads - 1) / warp_threads;
    const auto try_packs = [&]<int packs>() {
      if constexpr (packs * pack_width<T> <= 48) {
        if (needed <= packs) return body.template operator()<packs>(), true;
      }
      return false;
    };
    return D % pack_width<T> == 0 && (try_packs.template operator()<1>() || try_packs.template operator()<2>() ||
                                      try_packs.template operator()<3>() || try_packs.template operator()<4>() ||
                                      try_packs.template operator()<6>() || try_packs.template operator()<8>() ||
                                      try_packs.template operator()<12>());
  }
}

template <class T, class C = Compute<T>>
void forward(const Forward<T, C>& f) {
  const bool done = are_aligned(largest_pack, f.x, f.residual, f.sum, f.weight, f.bias, f.y) &&
                    with_packs<T>(f.D, [&]<int packs>() { launch_rows(forward_in_registers<T, packs>, f.rows, f); });
  if (!done) launch_rows(forward_any<T>, f.rows, f);
}

template <class T, class C = Compute<T>>
void backward(const Backward<T, C>& b) {
  if (b.rows == 0) return;
  const std::int64_t grain = rows_per_chunk_cuda(b.rows, b.D), chunks = chunk_count(b.rows, grain);
  const bool done = are_aligned(largest_pack, b.x, b.weight, b.dy, b.dx) && with_packs<T>(b.D, [&]<int packs>() {
                      launch(backward_in_registers<T, packs>, dim3(static_cast<unsigned>(chunks)),
                             dim3(warp_threads, warps_per_block), 2 * static_cast<std::size_t>(b.D) * sizeof(C),
                             current_stream(), b, grain);
                    });
  if (done) return;
  if (b.dx) launch_rows(backward_dx_any<T>, b.rows, b);
  launch(backward_columns_any<T>, grid_for(chunks * b.D, 128), dim3(128), 0, current_stream(), b, grain);
}

}  // namespace vitrine::layer_norm_cuda
#endif
