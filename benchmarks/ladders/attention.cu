// Attention forward, rung by rung. Each head takes 2 N^2 D multiplications and as many additions, on 4 N D numbers: far
// more arithmetic than bytes. What decides is whether the arithmetic can be fed, and which units do it.
#include "benchmarks/ladders/attention.h"

#include <cmath>

#include "op_table/op_table.h"
#include "ops/drivers/math.h"
#include "ops/drivers/tensor_core.h"
#include "ops/drivers/warp.h"
#include "ops/ops.h"
#include "tensor/parallel.h"

namespace vitrine::ladders {

#if VT_CUDA
namespace {

/// q, k, v and y are (heads, N, D), D = head_size. Scores are kept in units of log2: `scale` has the factor log2(e),
/// and the weight of a score is 2^(score - largest), for which the GPU has an instruction.
struct Forward {
  const bfloat16 *q, *k, *v;
  bfloat16* y;
  std::int64_t heads;
  int N;
  float scale;
};

__device__ float value_of(bfloat16 x) { return x; }

/// q . k over one row of each.
__device__ float dot(const bfloat16* q, const bfloat16* k) {
  float sum = 0;
  for (int d = 0; d < head_size; ++d) sum += value_of(q[d]) * value_of(k[d]);
  return sum;
}

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Larger {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// ---- Rung 1: three kernels, with the scores in memory ----
//
// The formula as it stands: scores = q k^T, softmax of each row, y = weights v. Between the kernels the (N, N) scores
// of each head lie in memory: 4 N^2 bytes written, read and written by the softmax, and read again. At N = 197 that is
// 6 times the bytes of q, k, v and y together, and it grows with the square of N. Every product fetches both of its
// factors.

/// scores (heads, N, N), one thread each.
__global__ void scores_in_memory(Forward f, float* scores) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (item >= f.heads * f.N * f.N) return;
  const std::int64_t query = item / f.N, head = query / f.N, key = head * f.N + item % f.N;
  scores[item] = f.scale * dot(f.q + query * head_size, f.k + key * head_size);
}

/// Every row of scores becomes its weights, by one warp each.
__global__ void softmax_in_memory(float* scores, std::int64_t rows, int N) {
  for_each_row_of_grid(rows, [&](std::int64_t row) {
    float *x = scores + row * N, largest = -INFINITY;
    for (int i = static_cast<int>(threadIdx.x); i < N; i += warp_threads) largest = fmaxf(largest, x[i]);
    largest = warp_reduce(largest, Larger());
    const float total = warp_sum<float>(N, [&](std::int64_t i) { return exp2_approx(x[i] - largest); });
    warp_for(N, [&](std::int64_t i) { x[i] = exp2_approx(x[i] - largest) / total; });
  });
}

/// y = weights v, one thread per element.
__global__ void weighted_sums(Forward f, const float* weights) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (item >= f.heads * f.N * head_size) return;
  const std::int64_t query = item / head_size, head = query / f.N;
  const bfloat16* v = f.v + head * f.N * head_size + item % head_size;
  float sum = 0;
  for (int key = 0; key < f.N; ++key) sum += weights[query * f.N + key] * value_of(v[key * head_size]);
  f.y[item] = static_cast<bfloat16>(sum);
}

// ---- Rung 2: the scores of one query in shared memory ----
//
// One warp does all of a query's work in one kernel. Its N scores are written and read in shared memory, on the chip,
// and no (N, N) matrix exists any more. What remains: every query reads K and V of its whole head, 4 N D bytes. The
// caches have most of it, but every number that they send serves a single multiplication.

__global__ void scores_in_shared_memory(Forward f) {
  float* weights = dynamic_shared<float>();  // (N)
  const std::int64_t query = blockIdx.x, first_key = query / f.N * f.N;
  const int lane = static_cast<int>(threadIdx.x);
  float largest = -INFINITY, total = 0;
  for (int key = lane; key < f.N; key += warp_threads) {
    weights[key] = f.scale * dot(f.q + query * head_size, f.k + (first_key + key) * head_size);
    largest = fmaxf(largest, weights[key]);
  }
  largest = warp_reduce(largest, Larger());
  for (int key = lane; key < f.N; key += warp_threads) {
    weights[key] = exp2_approx(weights[key] - largest);
    total += weights[key];
  }
  total = warp_reduce(total, Add());
  block_barrier();  // all weights are there; the shuffles above wait for lanes, but not for what they have written
  for (int d = lane; d < head_size; d += warp_threads) {
    float sum = 0;
    for (int key = 0; key < f.N; ++key) sum += weights[key] * value_of(f.v[(first_key + key) * head_size + d]);
    f.y[query * head_size + d] = static_cast<bfloat16>(sum / total);
  }
}

// ---- Rung 3: tiles of keys, online softmax ----
//
// The idea of FlashAttention (Dao et al. 2022), in its simplest form: a thread owns a query, 64 of them are a block.
// Keys and values pass through shared memory in tiles of 16, fetched once for 64 queries instead of once for each. The
// thread keeps q, the sums of y, the largest score so far and the total of the weights in registers; when a tile brings
// a larger score, sums and total are scaled down to it. So no score outlives its tile, and N may be anything. All
// threads of a warp read the same number of the tile at the same time, which shared memory hands to all of them at
// once, four numbers per load: one load for four multiplications.

constexpr int queries_per_block = 64, keys_per_tile = 16, vectors_per_row = head_size / 4;

/// One query, in one thread.
struct Query {
  float4 q[vectors_per_row], sums[vectors_per_row];
  float largest = -INFINITY, total = 0;

  __device__ Query(const Forward& f, std::int64_t row) {
#pragma unroll
    for (int j = 0; j < vectors_per_row; ++j) {
      const bfloat16* x = f.q + row * head_size + 4 * j;
      q[j] = make_float4(f.scale * value_of(x[0]), f.scale * value_of(x[1]), f.scale * value_of(x[2]),
                         f.scale * value_of(x[3]));
      sums[j] = make_float4(0, 0, 0, 0);
    }
  }

  /// Takes in `count` keys and values from shared memory, at most keys_per_tile.
  __device__ void add(const float4* keys, const float4* values, int count) {
    float scores[keys_per_tile], now = largest;
#pragma unroll
    for (int key = 0; key < keys_per_tile; ++key) {
      scores[key] = key < count ? score(keys + key * vectors_per_row) : -INFINITY;
      now = fmaxf(now, scores[key]);
    }
    const float factor = exp2_approx(largest - now);
    largest = now;
    total *= factor;
#pragma unroll
    for (float4& s : sums) s = make_float4(factor * s.x, factor * s.y, factor * s.z, factor * s.w);
#pragma unroll
    for (int key = 0; key < keys_per_tile; ++key) {
      if (key >= count) break;
      const float weight = exp2_approx(scores[key] - largest);
      total += weight;
#pragma unroll
      for (int j = 0; j < vectors_per_row; ++j) {
        const float4 v = values[key * vectors_per_row + j];
        sums[j].x += weight * v.x, sums[j].y += weight * v.y, sums[j].z += weight * v.z, sums[j].w += weight * v.w;
      }
    }
  }

  /// y of this query.
  __device__ void store(bfloat16* y) const {
#pragma unroll
    for (int j = 0; j < vectors_per_row; ++j) {
      const float results[4] = {sums[j].x / total, sums[j].y / total, sums[j].z / total, sums[j].w / total};
#pragma unroll
      for (int i = 0; i < 4; ++i) y[4 * j + i] = static_cast<bfloat16>(results[i]);
    }
  }

 private:
  __device__ float score(const float4* key) const {
    float x = 0, y = 0, z = 0, w = 0;  // four sums, so that an addition need not wait for the last
#pragma unroll
    for (int j = 0; j < vectors_per_row; ++j) {
      x += q[j].x * key[j].x, y += q[j].y * key[j].y, z += q[j].z * key[j].z, w += q[j].w * key[j].w;
    }
    return (x + y) + (z + w);
  }
};

/// target (count, D) in shared memory = rows of x, by all threads of the block.
__device__ void load_rows(float4* target, const bfloat16* x, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count * vectors_per_row; i += static_cast<int>(blockDim.x)) {
    const bfloat16* from = x + 4 * i;
    target[i] = make_float4(value_of(from[0]), value_of(from[1]), value_of(from[2]), value_of(from[3]));
  }
}

__global__ void online_softmax(Forward f, int tiles) {
  __shared__ float4 keys[keys_per_tile * vectors_per_row], values[keys_per_tile * vectors_per_row];
  const std::int64_t first_key = blockIdx.x / tiles * static_cast<std::int64_t>(f.N);
  const int n = static_cast<int>(blockIdx.x % tiles * queries_per_block + threadIdx.x);
  Query query(f, first_key + (n < f.N ? n : 0));  // a thread beyond the end helps to load
  for (int key = 0; key < f.N; key += keys_per_tile) {
    const int count = f.N - key < keys_per_tile ? f.N - key : keys_per_tile;
    block_barrier();  // the last tile has been read
    load_rows(keys, f.k + (first_key + key) * head_size, count);
    load_rows(values, f.v + (first_key + key) * head_size, count);
    block_barrier();
    if (n < f.N) query.add(keys, values, count);
  }
  if (n < f.N) query.store(f.y + (first_key + n) * head_size);
}

// ---- Rung 4: K and V of a head in shared memory, once ----
//
// The heads of a vision transformer are short. K and V of 197 keys take 99 KiB in f32, and a multiprocessor of an A100
// has 164 KiB of shared memory, of an H100 228: one block takes a whole head, loads K and V once instead of once for
// every 64 queries, and needs one barrier instead of two for each tile. The price: fewer warps share a multiprocessor.

__global__ void __launch_bounds__(most_keys) head_in_shared_memory(Forward f) {
  float4 *keys = dynamic_shared<float4>(), *values = keys + f.N * vectors_per_row;
  const std::int64_t first_key = blockIdx.x * static_cast<std::int64_t>(f.N);
  load_rows(keys, f.k + first_key * head_size, f.N);
  load_rows(values, f.v + first_key * head_size, f.N);
  block_barrier();
  const int n = static_cast<int>(threadIdx.x);
  if (n >= f.N) return;
  Query query(f, first_key + n);
  for (int key = 0; key < f.N; key += keys_per_tile) {
    const int count = f.N - key < keys_per_tile ? f.N - key : keys_per_tile;
    query.add(keys + key * vectors_per_row, values + key * vectors_per_row, count);
  }
  query.store(f.y + (first_key + n) * head_size);
}

// ---- Rung 5: tensor cores ----
//
// So far a multiplication was an instruction of a thread, one for each of 32 lanes. Tensor cores multiply whole
// matrices of bf16 per instruction of a warp, 16 x 16 by 16 x 8: 2048 multiplications with their additions. For that
// the numbers must lie in the registers of the lanes just so, and the scores, which come out of one product as f32,
// must go as bf16 into the next one. That is the library's kernel: ops/attention/mma.h.

// ---- The rungs ----

unsigned blocks_for(std::int64_t items, int per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// A rung that allocates y and calls start(Forward).
Rung rung(const std::string& name, const std::function<void(const Forward&)>& start) {
  return {name, [start](const Tensors& in) -> Work {
            Tensor y = empty_like(in.at(0));
            const Forward f{in.at(0).data<bfloat16>(),
                            in.at(1).data<bfloat16>(),
                            in.at(2).data<bfloat16>(),
                            y.data<bfloat16>(),
                            y.size(0) * y.size(1),
                            static_cast<int>(y.size(2)),
                            math::log2_e / std::sqrt(static_cast<float>(head_size))};
            return [=] {
              start(f);
              return Tensors{y};
            };
          }};
}

/// The first rung also needs memory for the scores.
Rung three_kernels() {
  return {"three kernels, scores in memory", [](const Tensors& in) -> Work {
            const Tensor& q = in.at(0);
            Tensor scores = empty({q.size(0), q.size(1), q.size(2), q.size(2)}, DType::f32, q.device());
            const auto start = [scores](const Forward& f) mutable {
              float* memory = scores.data<float>();
              launch(scores_in_memory, dim3(blocks_for(f.heads * f.N * f.N, 256)), dim3(256), 0, current_stream(), f,
                     memory);
              launch_rows(softmax_in_memory, f.heads * f.N, memory, f.heads * f.N, f.N);
              launch(weighted_sums, dim3(blocks_for(f.heads * f.N * head_size, 256)), dim3(256), 0, current_stream(), f,
                     memory);
            };
            return rung("", start).prepare(in);
          }};
}

void start_head_in_shared_memory(const Forward& f) {
  VT_CHECK(f.N <= most_keys, "attention, K and V of a head in shared memory: N is {}, expected at most {}", f.N,
           most_keys);
  const dim3 block(blocks_for(f.N, warp_threads) * warp_threads);
  const std::size_t shared_bytes = 2 * sizeof(float) * static_cast<std::size_t>(f.N * head_size);
  launch(head_in_shared_memory, dim3(blocks_for(f.heads, 1)), block, shared_bytes, current_stream(), f);
}

std::vector<Rung> attention_rungs() {
  return {
      three_kernels(),
      rung("scores of a query in shared memory",
           [](const Forward& f) {
             launch(scores_in_shared_memory, dim3(blocks_for(f.heads * f.N, 1)), dim3(warp_threads),
                    sizeof(float) * static_cast<std::size_t>(f.N), current_stream(), f);
           }),
      rung("tiles of keys, online softmax",
           [](const Forward& f) {
             const int tiles = static_cast<int>(blocks_for(f.N, queries_per_block));
             launch(online_softmax, dim3(blocks_for(f.heads * tiles, 1)), dim3(queries_per_block), 0, current_stream(),
                    f, tiles);
           }),
      rung("K and V of a head in shared memory", start_head_in_shared_memory),
      {"tensor cores: the op attention",
       [](const Tensors& in) -> Work { return [in] { return Tensors{attention(in.at(0), in.at(1), in.at(2))}; }; }},
  };
}

}  // namespace
#endif

namespace {

/// y (N, D) of one head.
void reference_head(const float* q, const float* k, const float* v, std::int64_t N, double* y) {
  std::vector<double> weights(static_cast<std::size_t>(N));
  for (std::int64_t n = 0; n < N; ++n) {
    double largest = -INFINITY, total = 0;
    for (std::int64_t key = 0; key < N; ++key) {
      double score = 0;
      for (int d = 0; d < head_size; ++d) score += static_cast<double>(q[n * head_size + d]) * k[key * head_size + d];
      score /= std::sqrt(static_cast<double>(head_size));
      weights[static_cast<std::size_t>(key)] = score;
      largest = std::max(largest, score);
    }
    double* to = y + n * head_size;
    std::fill(to, to + head_size, 0);
    for (std::int64_t key = 0; key < N; ++key) {
      const double weight = std::exp(weights[static_cast<std::size_t>(key)] - largest);
      total += weight;
      for (int d = 0; d < head_size; ++d) to[d] += weight * v[key * head_size + d];
    }
    for (int d = 0; d < head_size; ++d) to[d] /= total;
  }
}

Tensors reference(const Tensors& in) {
  Tensors f32;
  for (const Tensor& x : in) f32.push_back(cast_data(x, DType::f32));
  const std::int64_t heads = in.at(0).size(0) * in.at(0).size(1), N = in.at(0).size(2), size = N * head_size;
  const float *q = f32[0].data<float>(), *k = f32[1].data<float>(), *v = f32[2].data<float>();
  Tensor y = empty(in.at(0).shape(), DType::f64);
  double* to = y.data<double>();
  parallel_for(heads, 1, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = begin; h < end; ++h) {
      reference_head(q + h * size, k + h * size, v + h * size, N, to + h * size);
    }
  });
  return {y};
}

Tensors inputs(const Shape& size) {
  VT_CHECK(size.size() == 4 && size[3] == head_size, "attention: the size is {}, expected (B, H, N, {})",
           to_string(size), head_size);
  Tensors result;
  for (const std::uint64_t stream : {1, 2, 3}) result.push_back(cast_data(test_values(size, stream), DType::bf16));
  return result;
}

}  // namespace

Ladder attention_ladder() {
  Ladder ladder;
  ladder.name = "attention";
  ladder.dimensions = "(B, H, N, D), bf16";
  ladder.timed_size = {128, 12, 197, head_size};  // a batch of ViT-B/16 at 224 pixels
#if VT_CUDA
  ladder.rungs = attention_rungs();
#endif
  ladder.inputs = inputs;
  ladder.reference = reference;
  ladder.tolerance = 4e-3;  // bf16 rounds the results by up to 2e-3 each
  ladder.bytes = [](const Shape&) { return 0.0; };
  ladder.flops = [](const Shape& size) {
    return 4.0 * static_cast<double>(size[0] * size[1] * size[2] * size[2] * size[3]);
  };
  return ladder;
}

}  // namespace vitrine::ladders
