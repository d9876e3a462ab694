// LayerNorm forward, rung by rung. It adds and multiplies a dozen times for every number that it
// reads and writes, so what decides is how the bytes travel: at best x is read once and y written
// once.
#include "benchmarks/ladders/layer_norm.h"

#include <cmath>

#include "op_table/op_table.h"
#include "ops/drivers/warp.h"
#include "ops/ops.h"

namespace vitrine::ladders {

#if VT_CUDA
namespace {

/// x and y are (rows, D), weight and bias (D).
struct Forward {
  const float *x, *weight, *bias;
  float* y;
  std::int64_t rows;
  int D;
};

// ---- Rung 1: one thread per row ----
//
// The formula as one would write it for a CPU. The 32 threads of a warp read 32 rows at the same
// time: addresses that lie D elements apart. Memory answers in sectors of 32 bytes, so of each
// sector that comes, one number in eight is wanted now; the rest is of use only if it is still in
// the cache when its thread gets there. And every addition waits for the last.

__global__ void thread_per_row(Forward f) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= f.rows) return;
  const float* x = f.x + row * f.D;
  float* y = f.y + row * f.D;
  float sum = 0, squares = 0;
  for (int i = 0; i < f.D; ++i) sum += x[i];
  const float mean = sum / static_cast<float>(f.D);
  for (int i = 0; i < f.D; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float rstd = 1 / std::sqrt(squares / static_cast<float>(f.D) + epsilon);
  for (int i = 0; i < f.D; ++i) y[i] = (x[i] - mean) * rstd * f.weight[i] + f.bias[i];
}

// ---- Rung 2: one block per row ----
//
// Neighbouring threads read neighbouring elements: a warp's 32 loads become four full sectors, and
// every byte that travels is used at once ("coalesced"). A row's sum is now spread over the threads
// of a block, who have to meet: they add in a tree in shared memory, half as many at each level,
// with a barrier between the levels. Here that is ten barriers for each of the two sums, at which
// all eight warps of the block wait for the slowest.

constexpr int block_threads = 256;

/// The sum of `mine` over the block.
__device__ float block_sum(float mine, float* shared) {
  shared[threadIdx.x] = mine;
  block_barrier();
  for (unsigned half = block_threads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    block_barrier();
  }
  const float total = shared[0];
  block_barrier();  // all have read the total before the next sum overwrites it
  return total;
}

__global__ void block_per_row(Forward f) {
  __shared__ float shared[block_threads];
  const std::int64_t row = blockIdx.x;
  const float* x = f.x + row * f.D;
  float* y = f.y + row * f.D;
  const int first = static_cast<int>(threadIdx.x);
  float sum = 0, squares = 0;
  for (int i = first; i < f.D; i += block_threads) sum += x[i];
  const float mean = block_sum(sum, shared) / static_cast<float>(f.D);
  for (int i = first; i < f.D; i += block_threads) squares += (x[i] - mean) * (x[i] - mean);
  const float rstd = 1 / std::sqrt(block_sum(squares, shared) / static_cast<float>(f.D) + epsilon);
  for (int i = first; i < f.D; i += block_threads) y[i] = (x[i] - mean) * rstd * f.weight[i] + f.bias[i];
}

// ---- Rung 3: one warp per row ----
//
// The 32 lanes of a warp can read each other's registers (a "shuffle"): five exchanges add up their
// sums, without shared memory and without a barrier. A warp that waits for memory delays no other,
// and the others of its multiprocessor, up to 63, each with a row of its own, fill the time. Loads
// stay coalesced: lane l has the columns l, l + 32, l + 64, ...

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};

__global__ void warp_per_row(Forward f) {
  for_each_row_of_grid(f.rows, [&](std::int64_t row) {
    const float* x = f.x + row * f.D;
    float* y = f.y + row * f.D;
    const int lane = static_cast<int>(threadIdx.x);
    float sum = 0, squares = 0;
    for (int i = lane; i < f.D; i += warp_threads) sum += x[i];
    const float mean = warp_reduce(sum, Add()) / static_cast<float>(f.D);
    for (int i = lane; i < f.D; i += warp_threads) squares += (x[i] - mean) * (x[i] - mean);
    const float rstd = 1 / std::sqrt(warp_reduce(squares, Add()) / static_cast<float>(f.D) + epsilon);
    for (int i = lane; i < f.D; i += warp_threads) y[i] = (x[i] - mean) * rstd * f.weight[i] + f.bias[i];
  });
}

// ---- Rung 4: the row stays in registers ----
//
// Rungs 1 to 3 read x three times, and the cache has to serve two of them. A lane's share of a row
// is at most 32 elements, and registers hold those: x is read once. No less important, all of its
// loads are under way before the first sum needs one, instead of a few at a time. For that the loop
// must be unrolled, because registers have no addresses.

constexpr int most_per_lane = most_columns / warp_threads;

__global__ void row_in_registers(Forward f) {
  for_each_row_of_grid(f.rows, [&](std::int64_t row) {
    const float* x = f.x + row * f.D;
    float* y = f.y + row * f.D;
    float mine[most_per_lane], sum = 0, squares = 0;
#pragma unroll
    for (int j = 0; j < most_per_lane; ++j) {
      const int i = static_cast<int>(threadIdx.x) + j * warp_threads;
      mine[j] = i < f.D ? x[i] : 0;
      sum += mine[j];
    }
    const float mean = warp_reduce(sum, Add()) / static_cast<float>(f.D);
#pragma unroll
    for (int j = 0; j < most_per_lane; ++j) {
      const int i = static_cast<int>(threadIdx.x) + j * warp_threads;
      if (i < f.D) squares += (mine[j] - mean) * (mine[j] - mean);
    }
    const float rstd = 1 / std::sqrt(warp_reduce(squares, Add()) / static_cast<float>(f.D) + epsilon);
#pragma unroll
    for (int j = 0; j < most_per_lane; ++j) {
      const int i = static_cast<int>(threadIdx.x) + j * warp_threads;
      if (i < f.D) y[i] = (mine[j] - mean) * rstd * f.weight[i] + f.bias[i];
    }
  });
}

// ---- Rung 5: 16 bytes at a time ----
//
// A load instruction may bring up to 16 bytes to each thread. Four elements at a time cost a
// quarter
// of the instructions, address sums and comparisons, and a quarter of the entries in the queues to
// memory for the same bytes under way. D must be a multiple of four, so that every row begins at an
// address that 16 divides.

constexpr int vector_size = 4, most_vectors = most_per_lane / vector_size;

__device__ float sum_of_squares(float4 v, float mean) {
  const float a = v.x - mean, b = v.y - mean, c = v.z - mean, d = v.w - mean;
  return (a * a + b * b) + (c * c + d * d);
}

__global__ void vector_loads(Forward f) {
  const int vectors = f.D / vector_size, lane = static_cast<int>(threadIdx.x);
  const auto *weight = reinterpret_cast<const float4*>(f.weight), *bias = reinterpret_cast<const float4*>(f.bias);
  for_each_row_of_grid(f.rows, [&](std::int64_t row) {
    const auto* x = reinterpret_cast<const float4*>(f.x + row * f.D);
    auto* y = reinterpret_cast<float4*>(f.y + row * f.D);
    float4 mine[most_vectors];
    float sum = 0, squares = 0;
#pragma unroll
    for (int j = 0; j < most_vectors; ++j) {
      const int i = lane + j * warp_threads;
      mine[j] = i < vectors ? x[i] : make_float4(0, 0, 0, 0);
      sum += (mine[j].x + mine[j].y) + (mine[j].z + mine[j].w);
    }
    const float mean = warp_reduce(sum, Add()) / static_cast<float>(f.D);
#pragma unroll
    for (int j = 0; j < most_vectors; ++j) {
      if (lane + j * warp_threads < vectors) squares += sum_of_squares(mine[j], mean);
    }
    const float rstd = 1 / std::sqrt(warp_reduce(squares, Add()) / static_cast<float>(f.D) + epsilon);
#pragma unroll
    for (int j = 0; j < most_vectors; ++j) {
      const int i = lane + j * warp_threads;
      if (i >= vectors) continue;
      const float4 v = mine[j], w = weight[i], b = bias[i];
      y[i] = make_float4((v.x - mean) * rstd * w.x + b.x, (v.y - mean) * rstd * w.y + b.y,
                         (v.z - mean) * rstd * w.z + b.z, (v.w - mean) * rstd * w.w + b.w);
    }
  });
}

// ---- The rungs ----

unsigned blocks_for(std::int64_t items, int per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// A rung that allocates y and calls start(Forward).
Rung rung(const std::string& name, const std::function<void(const Forward&)>& start) {
  return {name, [start](const Tensors& in) -> Work {
            Tensor y = empty_like(in.at(0));
            const Forward f{
                in.at(0).data<float>(),     in.at(1).data<float>(), in.at(2).data<float>(), y.data<float>(), y.size(0),
                static_cast<int>(y.size(1))};
            return [=] {
              if (f.rows > 0) start(f);
              return Tensors{y};
            };
          }};
}

void check_columns(const char* name, int D, int multiple) {
  VT_CHECK(D <= most_columns && D % multiple == 0, "layer_norm, {}: D is {}, expected a multiple of {} up to {}", name,
           D, multiple, most_columns);
}

std::vector<Rung> forward_rungs() {
  return {
      rung("one thread per row",
           [](const Forward& f) {
             launch(thread_per_row, dim3(blocks_for(f.rows, 128)), dim3(128), 0, current_stream(), f);
           }),
      rung("one block per row, shared memory",
           [](const Forward& f) {
             launch(block_per_row, dim3(blocks_for(f.rows, 1)), dim3(block_threads), 0, current_stream(), f);
           }),
      rung("one warp per row, shuffles", [](const Forward& f) { launch_rows(warp_per_row, f.rows, f); }),
      rung("the row stays in registers",
           [](const Forward& f) {
             check_columns("the row stays in registers", f.D, 1);
             launch_rows(row_in_registers, f.rows, f);
           }),
      rung("16 bytes at a time",
           [](const Forward& f) {
             check_columns("16 bytes at a time", f.D, vector_size);
             launch_rows(vector_loads, f.rows, f);
           }),
      {"the op layer_norm",
       [](const Tensors& in) -> Work {
         return [in] { return Tensors{layer_norm(in.at(0), in.at(1), in.at(2), epsilon)}; };
       }},
  };
}

}  // namespace
#endif

namespace {

Tensors reference(const Tensors& in) {
  const auto rows = in.at(0).size(0), D = in.at(0).size(1);
  const auto x = in.at(0).to_vector<float>(), weight = in.at(1).to_vector<float>(), bias = in.at(2).to_vector<float>();
  Tensor y = empty({rows, D}, DType::f64);
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* from = x.data() + row * D;
    double mean = 0, variance = 0;
    for (std::int64_t i = 0; i < D; ++i) mean += from[i] / static_cast<double>(D);
    for (std::int64_t i = 0; i < D; ++i) variance += (from[i] - mean) * (from[i] - mean) / static_cast<double>(D);
    const double rstd = 1 / std::sqrt(variance + epsilon);
    for (std::int64_t i = 0; i < D; ++i) {
      const auto column = static_cast<std::size_t>(i);
      y.data<double>()[row * D + i] = (from[i] - mean) * rstd * weight[column] + bias[column];
    }
  }
  return {y};
}

Tensors inputs(const Shape& size) {
  return {cast_data(test_values(size, 1, 1, 5), DType::f32),  // far enough from 0 for the mean to matter
          cast_data(test_values({size[1]}, 2), DType::f32), cast_data(test_values({size[1]}, 3), DType::f32)};
}

}  // namespace

Ladder layer_norm_ladder() {
  Ladder ladder;
  ladder.name = "layer_norm";
  ladder.dimensions = "(rows, D), f32";
  ladder.timed_size = {256 * 197, 768};  // a batch of ViT-B/16 at 224 pixels
#if VT_CUDA
  ladder.rungs = forward_rungs();
#endif
  ladder.inputs = inputs;
  ladder.reference = reference;
  ladder.tolerance = 1e-5;
  ladder.bytes = [](const Shape& size) { return 4.0 * static_cast<double>(2 * size[0] * size[1] + 2 * size[1]); };
  ladder.flops = [](const Shape&) { return 0.0; };
  return ladder;
}

}  // namespace vitrine::ladders
