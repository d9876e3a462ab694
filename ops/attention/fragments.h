// What the attention kernels on tensor cores are made of: rows in shared memory and in registers, their products, the
// shares of the warps. The kernels are in ops/attention/mma.h.
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
inline constexpr int most_warps = 4;

/// Blocks that a multiprocessor should have registers for, 168 or 255 for each thread: one loads while others compute.
template <int D, bool has_bias>
inline constexpr int blocks_at_once = D + 16 * has_bias <= 64 ? 3 : 2;

/// Numbers from one row in shared memory to the next. (D + 8) * 2 bytes are an odd number of 16-byte units, so that the
/// eight rows of a matrix of ldmatrix lie in different banks.
template <int D>
inline constexpr int stride = D + 8;

constexpr int round_up(int x, int unit) { return (x + unit - 1) / unit * unit; }

// The place of a lane in a fragment, under the PTX manual's names: groupID is its row, threadID_in_group its pair of columns.
__device__ inline int group_id() { return static_cast<int>(threadIdx.x) % 32 / 4; }
__device__ inline int thread_in_group() { return static_cast<int>(threadIdx.x) % 4; }

// ---- Rows on the other side: through shared memory ----

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

/// Two matrices (length, D), k and v or q and dy, in blocks of 64 rows. Rows up to a multiple of 16 are filled with
/// zeros. Where the matrices are long, there is room for two blocks: while one is read, the next arrives.
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
    block_barrier();  // whatever was there before has been read
    for (int block = 0; block < (is_resident() ? blocks() : 1); ++block) load(block);
    if (is_resident()) arrive();
  }
  /// Called by the whole block: `block` is there for everyone when it returns.
  __device__ void ready(int block) const {
    if (is_resident()) return;
    arrive();  // behind the barrier nobody reads the block before this one any more
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
#pragma unroll 1  // the sums of ready()'s caller have the registers
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

/// c (16, D) += a (16, 16) times 16 rows of shared memory.
template <int D>
__device__ void multiply_rows(FragmentC (&c)[D / 8], const FragmentA& a, const bfloat16* rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bfloat16* mine = rows + lane % 16 * stride<D> + lane / 16 * 8;
#pragma unroll
  for (int s = 0; s < D / 16; ++s) {
    std::uint32_t x[4];
    ldmatrix_x4_trans(x, mine + 16 * s);
    mma_m16n8k16(c[2 * s], a, {{x[0], x[1]}});
    mma_m16n8k16(c[2 * s + 1], a, {{x[2], x[3]}});
  }
}

// ---- Rows of the warp's own: in registers ----

/// Two neighbours in one access; x is aligned to 4 bytes.
using Pair = Pack<bfloat16, 2>;
__device__ inline std::uint32_t load_pair(const bfloat16* x) {
  return std::bit_cast<std::uint32_t>(read_pack(reinterpret_cast<const Pair*>(x)));
}
__device__ inline void store_pair(bfloat16* x, std::uint32_t pair) {
  write_pack(reinterpret_cast<Pair*>(x), std::bit_cast<Pair>(pair));
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

/// Rows first to first + 15 of `to` = c, the upper eight times scale[0], the lower eight times scale[1].
template <int D>
__device__ void store_rows(bfloat16* to, std::int64_t row_stride, int first, int length, const FragmentC (&c)[D / 8],
                           const float (&scale)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + group_id() + half * 8;
    if (row >= length) continue;
    bfloat16* mine = to + row * row_stride + 2 * thread_in_group();
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      store_pair(mine + 8 * j, pack_bf16(c[j].x[2 * half] * scale[half], c[j].x[2 * half + 1] * scale[half]));
    }
  }
}

/// (16, 16) rounded to bf16, as the left operand of another product.
__device__ inline FragmentA as_left(const FragmentC (&c)[2]) {
  return {{pack_bf16(c[0].x[0], c[0].x[1]), pack_bf16(c[0].x[2], c[0].x[3]), pack_bf16(c[1].x[0], c[1].x[1]),
           pack_bf16(c[1].x[2], c[1].x[3])}};
}

/// Calls body(j, i, row, column) for the entries c[j].x[i] that this lane has of a (16, 16) matrix; i / 2 tells its two
/// rows apart.
template <class Body>
__device__ void for_entries(const Body& body) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) body(j, i, group_id() + i / 2 * 8, 8 * j + 2 * thread_in_group() + i % 2);
  }
}

/// `value` of the four lanes that share a row, combined.
template <class Combine>
__device__ float reduce_over_row(float value, const Combine& combine) {
  value = combine(value, shuffle_xor(value, 1));
  return combine(value, shuffle_xor(value, 2));
}

/// From a product of rows of q and k to the score of query n and key m in units of log2, -infinity beyond the last key.
/// e^(s - l) = 2^(s log2 e - l log2 e), and 2^x is one instruction.
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

// ---- Who does what ----

/// The tiles of 16 rows of one head, shared out: `blocks` blocks of `warps` warps, each of which does `rounds` tiles.
struct Schedule {
  int blocks, warps, rounds;
  /// For `length` rows of one's own and `other` rows on the other side, which must be loaded again for every round
  /// unless all are resident.
  Schedule(std::int64_t length, std::int64_t other) {
    const int tiles = static_cast<int>((length + tile_rows - 1) / tile_rows);
    const auto share = [](int count, int among) { return (count + among - 1) / among; };
    blocks = share(tiles, most_warps * (other <= resident_rows ? 2 : 1));
    rounds = share(share(tiles, blocks), most_warps);
    warps = share(share(tiles, blocks), rounds);
  }
};

/// What this warp does: head h of a share of the batch (one sample, mostly), and `rounds` tiles.
struct Place {
  std::int64_t share, h;
  int first_tile;
  __device__ Place(const Schedule& schedule, std::int64_t H)
      : share(blockIdx.x / (schedule.blocks * H)),
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
