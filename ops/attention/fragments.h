// The parts of the attention kernels on tensor cores: rows in shared memory and in registers, their
// products, and which warp computes which rows. The kernels are in ops/attention/mma.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>

#include "ops/attention/operands.h"
#include "ops/drivers/math.h"
#include "ops/drivers/tensor_core.h"
#include "ops/drivers/warp.h"
#include "tensor/device/packs.h"

#if VT_CUDA
namespace vitrine::attention_mma {

using Inputs = AttentionInputs<bfloat16>;

inline constexpr int tile_rows = 16;  // of a warp
inline constexpr int block_rows = 64, tiles_per_block = block_rows / tile_rows;
inline constexpr int resident_rows = 256;  // 88 KiB for two matrices with D = 80, which all GPUs since sm_80 have
inline constexpr int most_warps = 4, most_forward_warps = 7;  // 13 tiles, a ViT at 224 pixels, are two for each of 7

/// Number of blocks that should fit in the registers of a multiprocessor, with 168 or 255 registers
/// per thread (forward: 144 or 255): one block loads while others compute.
template <int D, bool has_bias>
inline constexpr int blocks_at_once = D + 16 * has_bias <= 64 ? 3 : 2;
template <int D, bool has_bias>
inline constexpr int forward_blocks_at_once = D + 16 * has_bias <= 64 ? 2 : 1;

/// Elements from one row in shared memory to the next. (D + 8) * 2 bytes are an odd number of
/// 16-byte units, so that the eight rows that ldmatrix reads at once lie in different banks.
template <int D>
inline constexpr int stride = D + 8;

constexpr int round_up(int x, int unit) { return (x + unit - 1) / unit * unit; }

// The position of a lane in a fragment, under the PTX manual's names: groupID is its row,
// threadID_in_group its pair of columns.
__device__ inline int group_id() { return static_cast<int>(threadIdx.x) % 32 / 4; }
__device__ inline int thread_in_group() { return static_cast<int>(threadIdx.x) % 4; }

// ---- The rows that all warps of a block read: in shared memory ----

/// Rows of one head in global memory.
struct Rows {
  const bfloat16* data;
  std::int64_t row;
  __device__ const bfloat16* at(int r) const { return data + r * row; }
};

template <int D>
__host__ __device__ constexpr std::size_t shared_bytes(int length) {
  const int rows = length <= resident_rows ? round_up(length, tile_rows) : 2 * block_rows;
  return sizeof(bfloat16) * 2 * static_cast<std::size_t>(rows * stride<D>);
}

/// Two matrices (length, D), k and v or q and dy, in blocks of 64 rows. Rows up to a multiple of 16
/// are filled with zeros. Matrices of more than resident_rows rows have memory for two blocks:
/// while one is read, the next is copied.
template <int D>
struct RowPair {
  Rows first, second;
  int length;
  bfloat16* shared = dynamic_shared<bfloat16>();

  __device__ bool is_resident() const { return length <= resident_rows; }
  __device__ int blocks() const { return (length + block_rows - 1) / block_rows; }
  /// Tiles of 16 rows in a block.
  __device__ int tiles(int block) const {
    const int left = (length - block * block_rows + tile_rows - 1) / tile_rows;
    return left < tiles_per_block ? left : tiles_per_block;
  }
  __device__ bfloat16* first_rows(int block) const {
    return shared + (is_resident() ? block : block % 2 * 2) * block_rows * stride<D>;
  }
  __device__ bfloat16* second_rows(int block) const {
    return first_rows(block) + (is_resident() ? round_up(length, tile_rows) : block_rows) * stride<D>;
  }

  /// Called by the whole block before the first ready().
  __device__ void start() const {
    block_barrier();  // the rows of the matrices before these have been read
    for (int block = 0; block < (is_resident() ? blocks() : 1); ++block) load(block);
    if (is_resident()) arrive();
  }
  /// Called by all threads: when it returns, `block` is in shared memory.
  __device__ void ready(int block) const {
    if (is_resident()) return;
    arrive();  // after its barrier, no thread reads the block before this one any more
    if (block + 1 < blocks()) load(block + 1);
  }

 private:
  __device__ static void arrive() {
    cp_async_wait();
    block_barrier();
  }
  __device__ void load(int block) const {
    constexpr int pieces = D / 8;  // of 16 bytes
    const int begin = block * block_rows, end = std::min(begin + block_rows, round_up(length, tile_rows));
#pragma unroll 1  // to leave the registers to the sums of the kernel
    for (int i = static_cast<int>(threadIdx.x); i < (end - begin) * pieces; i += static_cast<int>(blockDim.x)) {
      const int r = i / pieces, d = i % pieces * 8;
      const bool exists = begin + r < length;
      cp_async_16(first_rows(block) + r * stride<D> + d, first.at(begin + r) + d, exists);
      cp_async_16(second_rows(block) + r * stride<D> + d, second.at(begin + r) + d, exists);
    }
  }
};

/// c (16, 16) += a (16, D) times the transpose of 16 rows of shared memory.
template <int D>
__device__ void multiply_transposed(FragmentC (&c)[2], const FragmentA (&a)[D / 16], const bfloat16* rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bfloat16* mine = rows + (lane / 16 * 8 + lane % 8) * stride<D> + lane / 8 % 2 * 8;
#pragma unroll
  for (int s = 0; s < D / 16; ++s) {
    std::uint32_t x[4];
    ldmatrix_x4(x, mine + 16 * s);
    mma_m16n8k16(c[0], a[s], {{x[0], x[1]}});
    mma_m16n8k16(c[1], a[s], {{x[2], x[3]}});
  }
}

/// c (16, columns) += a (16, 16) times 16 rows of shared memory, or as many of their columns as c
/// has.
template <int D, int columns = D>
__device__ void multiply_rows(FragmentC (&c)[columns / 8], const FragmentA& a, const bfloat16* rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bfloat16* mine = rows + lane % 16 * stride<D> + lane / 16 * 8;
#pragma unroll
  for (int s = 0; s < columns / 16; ++s) {
    std::uint32_t x[4];
    ldmatrix_x4_trans(x, mine + 16 * s);
    mma_m16n8k16(c[2 * s], a, {{x[0], x[1]}});
    mma_m16n8k16(c[2 * s + 1], a, {{x[2], x[3]}});
  }
}

/// 16 rows of shared memory as left operands.
template <int D>
__device__ void load_left_shared(FragmentA (&to)[D / 16], const bfloat16* rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int s = 0; s < D / 16; ++s) ldmatrix_x4(to[s].x, rows + lane % 16 * stride<D> + lane / 16 * 8 + 16 * s);
}

/// The transpose of a (16, 16) matrix in shared memory, whose rows are `row_stride` elements apart,
/// as a left operand.
__device__ inline FragmentA load_left_transposed(const bfloat16* matrix, int row_stride) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  FragmentA result;
  ldmatrix_x4_trans(result.x, matrix + (lane / 16 * 8 + lane % 8) * row_stride + lane / 8 % 2 * 8);
  return result;
}

// ---- The rows that one warp owns: in registers ----

/// Two neighbours in one access; x is aligned to 4 bytes.
using Pair = Pack<bfloat16, 2>;
__device__ inline std::uint32_t load_pair(const bfloat16* x) {
  return std::bit_cast<std::uint32_t>(read_pack(reinterpret_cast<const Pair*>(x)));
}
__device__ inline void store_pair(bfloat16* x, std::uint32_t pair) {
  write_pack(reinterpret_cast<Pair*>(x), std::bit_cast<Pair>(pair));
}

/// Eight neighbours in one access; x is aligned to 16 bytes.
__device__ inline void store_16(bfloat16* x, const std::uint32_t (&pairs)[4]) {
  using Eight = Pack<std::uint32_t, 4>;
  write_pack(reinterpret_cast<Eight*>(x), Eight{{pairs[0], pairs[1], pairs[2], pairs[3]}});
}

/// Rows first to first + 15 as left operands, zeros beyond `length`.
template <int D>
__device__ void load_left(FragmentA (&to)[D / 16], const Rows& x, int first, int length) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + group_id() + half * 8;
    const bfloat16* from = x.at(row < length ? row : 0) + 2 * thread_in_group();
#pragma unroll
    for (int i = 0; i < D / 8; ++i) to[i / 2].x[i % 2 * 2 + half] = row < length ? load_pair(from + 8 * i) : 0;
  }
}

/// Of a 4 x 4 matrix of registers, whose column t is in x of the t-th lane of a group, the t-th row
/// instead: two rounds in which neighbours swap half of what they have.
__device__ inline void transpose_in_group(std::uint32_t (&x)[4]) {
#pragma unroll
  for (int distance = 1; distance <= 2; distance *= 2) {
    const bool is_upper = thread_in_group() & distance;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & distance) continue;
      std::uint32_t &low = x[i], &high = x[i + distance];
      const std::uint32_t other = shuffle_xor(is_upper ? low : high, distance);
      (is_upper ? low : high) = other;
    }
  }
}

/// Rows first to first + 15 of `to` = c, the upper eight times scale[0], the lower eight times
/// scale[1]. A lane has two neighbours of every eight columns; four lanes exchange them, so that
/// each writes eight neighbours at once, 16 bytes.
template <int columns>
__device__ void store_rows(bfloat16* to, std::int64_t row_stride, int first, int length,
                           const FragmentC (&c)[columns / 8], const float (&scale)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + group_id() + half * 8;
    bfloat16* const mine = to + row * row_stride;
    const auto pair = [&](int j) {
      return pack_bf16(c[j].x[2 * half] * scale[half], c[j].x[2 * half + 1] * scale[half]);
    };
#pragma unroll
    for (int j = 0; j + 4 <= columns / 8; j += 4) {
      std::uint32_t x[4] = {pair(j), pair(j + 1), pair(j + 2), pair(j + 3)};
      transpose_in_group(x);
      if (row < length) store_16(mine + 8 * (j + thread_in_group()), x);
    }
#pragma unroll
    for (int j = columns / 32 * 4; j < columns / 8; ++j) {
      if (row < length) store_pair(mine + 8 * j + 2 * thread_in_group(), pair(j));
    }
  }
}

/// (16, 16) rounded to bf16, as the left operand of another product.
__device__ inline FragmentA as_left(const FragmentC (&c)[2]) {
  return {{pack_bf16(c[0].x[0], c[0].x[1]), pack_bf16(c[0].x[2], c[0].x[3]), pack_bf16(c[1].x[0], c[1].x[1]),
           pack_bf16(c[1].x[2], c[1].x[3])}};
}

/// Calls body(j, i, row, column) for the entries c[j].x[i] that this lane has of a (16, 16) matrix;
/// i / 2 tells its two rows apart.
template <class Body>
__device__ void for_entries(const Body& body) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) body(j, i, group_id() + i / 2 * 8, 8 * j + 2 * thread_in_group() + i % 2);
  }
}

/// Combines the `value`s of the four lanes that share a row; each of them gets the result.
template <class Combine>
__device__ float reduce_over_row(float value, const Combine& combine) {
  value = combine(value, shuffle_xor(value, 1));
  return combine(value, shuffle_xor(value, 2));
}

/// Turns the product of rows n of q and m of k into their score, in units of log2; -infinity beyond
/// the last key. e^(s - l) = 2^(s log2 e - l log2 e), and 2^x is one instruction.
template <bool has_bias>
struct Scores {
  int N, M;
  const bfloat16* bias;  // of this head
  unsigned row, column;  // strides
  float scale;
  __device__ Scores(const Inputs& in, std::int64_t b, std::int64_t h)
      : N(static_cast<int>(in.N)),
        M(static_cast<int>(in.M)),
        bias(in.bias.at(b, h, 0)),
        row(static_cast<unsigned>(in.bias.row)),
        column(static_cast<unsigned>(in.bias.column)),
        scale(in.scale * math::log2_e) {}
  __device__ float operator()(float product, int n, int m) const {
    float score = product * scale;
    if (has_bias && n < N && m < M)
      score +=
          static_cast<float>(bias[static_cast<unsigned>(n) * row + static_cast<unsigned>(m) * column]) * math::log2_e;
    return m < M ? score : -INFINITY;
  }
};

/// The logsumexp of query n in units of log2, to be subtracted from its scores. It is +infinity, so
/// that p = 0, where the query does not exist or all of its keys are masked.
__device__ inline float log2_sumexp(const float* logsumexp, int n, int N) {
  const float sum = n < N ? logsumexp[n] : -INFINITY;
  return sum == -INFINITY ? INFINITY : sum * math::log2_e;
}

// ---- Which warp computes which rows ----

/// How the tiles of 16 rows of one head are divided among `blocks` blocks of `warps` warps, each of
/// which computes `rounds` tiles one after the other.
struct Schedule {
  int blocks, warps, rounds;
  /// For `length` rows that the warps own (queries or keys), and `other` rows that pass through
  /// shared memory. The latter must be loaded again for every round unless all are resident.
  Schedule(std::int64_t length, std::int64_t other, int most = most_warps) {
    const int tiles = static_cast<int>((length + tile_rows - 1) / tile_rows);
    const auto divide = [](int count, int among) { return (count + among - 1) / among; };
    blocks = divide(tiles, most * (other <= resident_rows ? 2 : 1));
    rounds = divide(divide(tiles, blocks), most);
    warps = divide(divide(tiles, blocks), rounds);
  }
};

/// The tiles that this warp computes: of head h, for every sample of a slice of the batch (mostly
/// one sample).
struct WarpTiles {
  std::int64_t slice, h;
  int first_tile;
  __device__ WarpTiles(const Schedule& schedule, std::int64_t H)
      : slice(blockIdx.x / (schedule.blocks * H)),
        h(blockIdx.x / schedule.blocks % H),
        first_tile(static_cast<int>(blockIdx.x % static_cast<unsigned>(schedule.blocks)) * schedule.warps *
                       schedule.rounds +
                   static_cast<int>(threadIdx.x / 32)) {}
  __device__ int first_row(const Schedule& schedule, int round) const {
    return (first_tile + round * schedule.warps) * tile_rows;
  }
};

}  // namespace vitrine::attention_mma
#endif
