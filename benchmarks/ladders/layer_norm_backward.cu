// LayerNorm backward, rung by rung. Two kinds of sums in one op: dx needs sums along each row,
// dweight and dbias sums down each column. At best x and dy are read once and dx is written once.
#include <cmath>
#include <memory>

#include "autograd/tape.h"
#include "benchmarks/ladders/layer_norm.h"
#include "op_table/op_table.h"
#include "ops/drivers/warp.h"
#include "ops/ops.h"

namespace vitrine::ladders {

#if VT_CUDA
namespace {

/// x, dy and dx are (rows, D), weight (D). Forward has left mean and rstd (rows).
struct Backward {
  const float *x, *weight, *dy, *mean, *rstd;
  float *dx, *dweight, *dbias;  // of the last two: (D) in rung 1, above it (parts, D), to be added up
  std::int64_t rows;
  int D;
};

/// Before the clock starts: the mean and rstd of each row.
__global__ void statistics(const float* x, float* mean, float* rstd, std::int64_t rows, int D) {
  for_each_row_of_grid(rows, [&](std::int64_t row) {
    const float* from = x + row * D;
    const float middle = warp_sum<float>(D, [&](std::int64_t i) { return from[i]; }) / static_cast<float>(D);
    const float squares = warp_sum<float>(D, [&](std::int64_t i) { return (from[i] - middle) * (from[i] - middle); });
    if (threadIdx.x == 0) {
      mean[row] = middle;
      rstd[row] = 1 / std::sqrt(squares / static_cast<float>(D) + epsilon);
    }
  });
}

// ---- Rung 1: one thread per row for dx, one thread per column for dweight and dbias ----
//
// Down the columns the loads are coalesced for once: neighbouring threads have neighbouring
// columns. But D = 768 columns are 768 threads, of the 200,000 and more that the GPU has room for,
// and each adds up all rows one after the other. The GPU is nearly empty and waits.

__global__ void dx_thread_per_row(Backward b) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= b.rows) return;
  const float *x = b.x + row * b.D, *dy = b.dy + row * b.D;
  const float mean = b.mean[row], rstd = b.rstd[row];
  float sum_g = 0, sum_gn = 0;
  for (int i = 0; i < b.D; ++i) {
    const float g = dy[i] * b.weight[i];
    sum_g += g;
    sum_gn += g * (x[i] - mean) * rstd;
  }
  const float mean_g = sum_g / static_cast<float>(b.D), mean_gn = sum_gn / static_cast<float>(b.D);
  for (int i = 0; i < b.D; ++i) {
    b.dx[row * b.D + i] = rstd * (dy[i] * b.weight[i] - mean_g - (x[i] - mean) * rstd * mean_gn);
  }
}

__global__ void thread_per_column(Backward b) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= b.D) return;
  float dweight = 0, dbias = 0;
  for (std::int64_t row = 0; row < b.rows; ++row) {
    const float dy = b.dy[row * b.D + i];
    dweight += dy * (b.x[row * b.D + i] - b.mean[row]) * b.rstd[row];
    dbias += dy;
  }
  b.dweight[i] = dweight;
  b.dbias[i] = dbias;
}

// ---- Rung 2: one warp per row; columns in two stages ----
//
// The rows are cut into parts of 32. A thread adds up one column of one part, so that there are
// rows / 32 times as many threads, and a second kernel adds up the parts. Where the cuts are
// depends on the data's size alone, and the parts are added in order: the same bits every time,
// which atomic additions, the shorter way, do not give.

constexpr int rows_per_part = 32;

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};

__global__ void dx_warp_per_row(Backward b) {
  for_each_row_of_grid(b.rows, [&](std::int64_t row) {
    const float *x = b.x + row * b.D, *dy = b.dy + row * b.D;
    const float mean = b.mean[row], rstd = b.rstd[row];
    float sum_g = 0, sum_gn = 0;
    for (int i = static_cast<int>(threadIdx.x); i < b.D; i += warp_threads) {
      const float g = dy[i] * b.weight[i];
      sum_g += g;
      sum_gn += g * (x[i] - mean) * rstd;
    }
    const float mean_g = warp_reduce(sum_g, Add()) / static_cast<float>(b.D);
    const float mean_gn = warp_reduce(sum_gn, Add()) / static_cast<float>(b.D);
    for (int i = static_cast<int>(threadIdx.x); i < b.D; i += warp_threads) {
      b.dx[row * b.D + i] = rstd * (dy[i] * b.weight[i] - mean_g - (x[i] - mean) * rstd * mean_gn);
    }
  });
}

/// The sums over part blockIdx.x. blockIdx.y counts groups of columns.
__global__ void columns_of_parts(Backward b) {
  const int i = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (i >= b.D) return;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * rows_per_part;
  const std::int64_t end = begin + rows_per_part < b.rows ? begin + rows_per_part : b.rows;
  float dweight = 0, dbias = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const float dy = b.dy[row * b.D + i];
    dweight += dy * (b.x[row * b.D + i] - b.mean[row]) * b.rstd[row];
    dbias += dy;
  }
  b.dweight[blockIdx.x * static_cast<std::int64_t>(b.D) + i] = dweight;
  b.dbias[blockIdx.x * static_cast<std::int64_t>(b.D) + i] = dbias;
}

/// total (D) = the sum of part (parts, D). A block of 32 x 32 threads has 32 columns: thread (x, y)
/// adds up every 32nd part of column x, the threads of y = 0 add up what came of that.
__global__ void __launch_bounds__(1024) sum_of_parts(const float* part, float* total, std::int64_t parts, int D) {
  __shared__ float sums[warp_threads][warp_threads];
  const int i = static_cast<int>(blockIdx.x * warp_threads + threadIdx.x);
  float sum = 0;
  for (std::int64_t p = threadIdx.y; i < D && p < parts; p += warp_threads) sum += part[p * D + i];
  sums[threadIdx.y][threadIdx.x] = sum;
  block_barrier();
  if (threadIdx.y > 0 || i >= D) return;
  for (int y = 1; y < warp_threads; ++y) sum += sums[y][threadIdx.x];
  total[i] = sum;
}

// ---- Rung 3: x and dy are read once ----
//
// Rung 2 reads x and dy twice, in the kernel along the rows and in the one down the columns. Here a
// warp takes the 32 rows of a part one after the other. It has a row in registers anyway for dx,
// and always the same columns in the same lane: so it keeps the sums of its columns in registers
// too, and writes them once at the end.

constexpr int most_per_lane = most_columns / warp_threads;

__global__ void one_read(Backward b) {
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t parts = (b.rows + rows_per_part - 1) / rows_per_part;
  for_each_row_of_grid(parts, [&](std::int64_t part) {
    float dweight[most_per_lane] = {}, dbias[most_per_lane] = {};
    const std::int64_t begin = part * rows_per_part;
    const std::int64_t end = begin + rows_per_part < b.rows ? begin + rows_per_part : b.rows;
    for (std::int64_t row = begin; row < end; ++row) {
      const float mean = b.mean[row], rstd = b.rstd[row];
      float g[most_per_lane], n[most_per_lane], sum_g = 0, sum_gn = 0;
#pragma unroll
      for (int j = 0; j < most_per_lane; ++j) {
        const int i = lane + j * warp_threads;
        const float dy = i < b.D ? b.dy[row * b.D + i] : 0;
        n[j] = i < b.D ? (b.x[row * b.D + i] - mean) * rstd : 0;
        g[j] = i < b.D ? dy * b.weight[i] : 0;
        sum_g += g[j];
        sum_gn += g[j] * n[j];
        dweight[j] += dy * n[j];
        dbias[j] += dy;
      }
      const float mean_g = warp_reduce(sum_g, Add()) / static_cast<float>(b.D);
      const float mean_gn = warp_reduce(sum_gn, Add()) / static_cast<float>(b.D);
#pragma unroll
      for (int j = 0; j < most_per_lane; ++j) {
        const int i = lane + j * warp_threads;
        if (i < b.D) b.dx[row * b.D + i] = rstd * (g[j] - mean_g - n[j] * mean_gn);
      }
    }
#pragma unroll
    for (int j = 0; j < most_per_lane; ++j) {
      const int i = lane + j * warp_threads;
      if (i >= b.D) continue;
      b.dweight[part * b.D + i] = dweight[j];
      b.dbias[part * b.D + i] = dbias[j];
    }
  });
}

// ---- The rungs ----

unsigned blocks_for(std::int64_t items, int per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// What prepare() makes: results, the parts that are still to be added up, and what forward leaves
/// behind.
struct Buffers {
  Tensor dx, dweight, dbias, dweight_parts, dbias_parts, mean, rstd;
  explicit Buffers(const Tensor& x) : dx(empty_like(x)) {
    const std::int64_t rows = x.size(0), D = x.size(1), parts = blocks_for(rows, rows_per_part);
    for (Tensor* sums : {&dweight, &dbias}) *sums = empty({D}, DType::f32, x.device());
    for (Tensor* sums : {&dweight_parts, &dbias_parts}) *sums = empty({parts, D}, DType::f32, x.device());
    for (Tensor* statistic : {&mean, &rstd}) *statistic = empty({rows}, DType::f32, x.device());
    launch_rows(statistics, rows, x.data<float>(), mean.data<float>(), rstd.data<float>(), rows, static_cast<int>(D));
  }
};

/// A rung whose dweight and dbias are in `parts` parts when start(Backward) is done, or whole.
Rung rung(const std::string& name, bool in_parts, const std::function<void(const Backward&)>& start) {
  return {name, [=](const Tensors& in) -> Work {
            Buffers to(in.at(0));
            const std::int64_t rows = to.dx.size(0), parts = to.dweight_parts.size(0);
            const int D = static_cast<int>(to.dx.size(1));
            const Backward b{in.at(0).data<float>(),
                             in.at(1).data<float>(),
                             in.at(2).data<float>(),
                             to.mean.data<float>(),
                             to.rstd.data<float>(),
                             to.dx.data<float>(),
                             (in_parts ? to.dweight_parts : to.dweight).data<float>(),
                             (in_parts ? to.dbias_parts : to.dbias).data<float>(),
                             rows,
                             D};
            return [=]() mutable {
              start(b);
              if (in_parts) {
                const dim3 grid(blocks_for(D, warp_threads)), block(warp_threads, warp_threads);
                launch(sum_of_parts, grid, block, 0, current_stream(), b.dweight, to.dweight.data<float>(), parts, D);
                launch(sum_of_parts, grid, block, 0, current_stream(), b.dbias, to.dbias.data<float>(), parts, D);
              }
              return Tensors{to.dx, to.dweight, to.dbias};
            };
          }};
}

/// The op's own backward: forward is recorded before the clock starts.
Work backward_of_op(const Tensors& in) {
  const auto tape = std::make_shared<Tape>();
  const Tensor x = tape->watch(in.at(0)), weight = tape->watch(in.at(1));
  const Tensor bias = tape->watch(zeros_like(in.at(1)));
  const Tensor y = layer_norm(x, weight, bias, epsilon), dy = in.at(2);
  return [=] {
    const Gradients gradients = tape->backward(y, dy, {.retain = true});
    return Tensors{gradients[x], gradients[weight], gradients[bias]};
  };
}

std::vector<Rung> backward_rungs() {
  return {
      rung("one thread per row, one per column", false,
           [](const Backward& b) {
             launch(dx_thread_per_row, dim3(blocks_for(b.rows, 128)), dim3(128), 0, current_stream(), b);
             launch(thread_per_column, dim3(blocks_for(b.D, 128)), dim3(128), 0, current_stream(), b);
           }),
      rung("one warp per row, columns in two stages", true,
           [](const Backward& b) {
             launch_rows(dx_warp_per_row, b.rows, b);
             launch(columns_of_parts, dim3(blocks_for(b.rows, rows_per_part), blocks_for(b.D, 128)), dim3(128), 0,
                    current_stream(), b);
           }),
      rung("x and dy are read once", true,
           [](const Backward& b) {
             VT_CHECK(b.D <= most_columns, "layer_norm_backward, x and dy are read once: D is {}, expected at most {}",
                      b.D, most_columns);
             launch_rows(one_read, blocks_for(b.rows, rows_per_part), b);
           }),
      {"the op's backward", backward_of_op},
  };
}

}  // namespace
#endif

namespace {

/// The gradients of one row of x (D); adds to dweight and dbias.
void add_row(const float* x, const float* weight, const float* dy, std::int64_t D, double* dx, double* dweight,
             double* dbias) {
  const double size = static_cast<double>(D);
  double mean = 0, variance = 0, mean_g = 0, mean_gn = 0;
  for (std::int64_t i = 0; i < D; ++i) mean += x[i] / size;
  for (std::int64_t i = 0; i < D; ++i) variance += (x[i] - mean) * (x[i] - mean) / size;
  const double rstd = 1 / std::sqrt(variance + epsilon);
  for (std::int64_t i = 0; i < D; ++i) {
    const double g = static_cast<double>(dy[i]) * weight[i], n = (x[i] - mean) * rstd;
    mean_g += g / size;
    mean_gn += g * n / size;
    dweight[i] += dy[i] * n;
    dbias[i] += dy[i];
  }
  for (std::int64_t i = 0; i < D; ++i) {
    dx[i] = rstd * (static_cast<double>(dy[i]) * weight[i] - mean_g - (x[i] - mean) * rstd * mean_gn);
  }
}

Tensors reference(const Tensors& in) {
  const auto rows = in.at(0).size(0), D = in.at(0).size(1);
  const auto x = in.at(0).to_vector<float>(), weight = in.at(1).to_vector<float>(), dy = in.at(2).to_vector<float>();
  Tensor dx = empty({rows, D}, DType::f64), dweight = zeros({D}, DType::f64), dbias = zeros({D}, DType::f64);
  for (std::int64_t row = 0; row < rows; ++row) {
    add_row(x.data() + row * D, weight.data(), dy.data() + row * D, D, dx.data<double>() + row * D,
            dweight.data<double>(), dbias.data<double>());
  }
  return {dx, dweight, dbias};
}

Tensors inputs(const Shape& size) {
  return {cast_data(test_values(size, 1, 1, 5), DType::f32), cast_data(test_values({size[1]}, 2), DType::f32),
          cast_data(test_values(size, 3, -1, 2), DType::f32)};  // a mean of 0 would leave dbias to rounding
}

}  // namespace

Ladder layer_norm_backward_ladder() {
  Ladder ladder;
  ladder.name = "layer_norm_backward";
  ladder.dimensions = "(rows, D), f32";
  ladder.timed_size = {256 * 197, 768};  // a batch of ViT-B/16 at 224 pixels
#if VT_CUDA
  ladder.rungs = backward_rungs();
#endif
  ladder.inputs = inputs;
  ladder.reference = reference;
  ladder.tolerance = 1e-5;
  ladder.bytes = [](const Shape& size) {
    return 4.0 * static_cast<double>(3 * size[0] * size[1] + 2 * size[0] + 3 * size[1]);
  };
  ladder.flops = [](const Shape&) { return 0.0; };
  return ladder;
}

}  // namespace vitrine::ladders
