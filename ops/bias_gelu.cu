// bias_gelu: y = gelu(z) with z = x + bias, what stands between the two layers of an MLP. x (...,
// D), bias (D); gelu(z) = z P(X <= z), ops/gelu.cu.
//
// Forward saves a pass over x that would only add the bias. Backward adds up dbias while dx is at
// hand, and a pass is saved again. Only x and bias are kept. The arithmetic of GELU is in
// ops/drivers/math.h.
#include <algorithm>

#include "ops/composed.h"
#include "ops/drivers/elementwise.h"
#include "ops/drivers/gelu_bf16.h"
#include "ops/drivers/lanes.h"
#include "ops/drivers/math.h"
#include "ops/drivers/warp.h"
#include "ops/ops.h"
#include "tensor/device/packs.h"

namespace vitrine {

// ---- The definition ----

Tensor bias_gelu_composed(const Tensor& x, const Tensor& bias) { return gelu_composed(x + bias, GeluForm::erf); }

// ---- The gradient ----
//
//   dx = dy gelu'(z) with gelu'(z) = P(X <= z) + z p(z) (ops/gelu.cu)
//   dbias = sum of dx over the rows
// Why: x and bias enter z alike, so dz is the gradient of both; but one bias serves all rows.

namespace {

// ---- One element, on both devices ----

struct BiasGelu {
  template <class T>
  VT_HD T operator()(T x, T bias) const {
    return math::gelu(x + bias);
  }
};

struct BiasGeluBackward {
  template <class T>
  VT_HD T operator()(T dy, T x, T bias) const {
    return dy * math::gelu_slope(x + bias);
  }
};

// ---- CPU ----

template <class T>
void forward_row(const T* __restrict x, const T* __restrict bias, T* __restrict y, std::int64_t D) {
  using C = Compute<T>;
  for (std::int64_t i = 0; i < D; ++i) {
    y[i] = static_cast<T>(BiasGelu{}(static_cast<C>(x[i]), static_cast<C>(bias[i])));
  }
}

template <class T, class C = Compute<T>>
void backward_row(const T* __restrict dy, const T* __restrict x, const T* __restrict bias, T* __restrict dx,
                  C* __restrict dbias, std::int64_t D) {
  for (std::int64_t i = 0; i < D; ++i) {
    const C d = BiasGeluBackward{}(static_cast<C>(dy[i]), static_cast<C>(x[i]), static_cast<C>(bias[i]));
    dx[i] = static_cast<T>(d);
    dbias[i] += d;
  }
}

template <class T>
void forward_cpu(const T* x, const T* bias, T* y, std::int64_t rows, std::int64_t D) {
  parallel_for(rows, rows_per_chunk(D), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) forward_row(x + row * D, bias, y + row * D, D);
  });
}

/// partial is (chunks, D): the sums of dx over every chunk of rows.
template <class T, class C = Compute<T>>
void backward_cpu(const T* dy, const T* x, const T* bias, T* dx, C* partial, std::int64_t rows, std::int64_t D) {
  const std::int64_t grain = rows_per_chunk(D);
  parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    C* dbias = partial + begin / grain * D;
    std::fill(dbias, dbias + D, C(0));
    for (std::int64_t row = begin; row < end; ++row) {
      backward_row(dy + row * D, x + row * D, bias, dx + row * D, dbias, D);
    }
  });
}

// ---- CUDA: where rows are whole packs of 16 bytes ----

#if VT_CUDA
/// The threads of a block: `lanes` neighbours take the packs of a row that are theirs, and as many
/// rows are taken at once as fit. Where a row has more packs than 64, several blocks share it.
inline constexpr int largest_block = 256, most_lanes = 64;

struct Tiling {
  unsigned column_blocks, lanes, rows;
  explicit Tiling(std::int64_t packs)
      : column_blocks(static_cast<unsigned>(chunk_count(packs, most_lanes))),
        lanes(static_cast<unsigned>(chunk_count(packs, column_blocks))),
        rows(largest_block / lanes) {}
  dim3 block() const { return {lanes, rows}; }
};

/// Blocks that an H100 or H200 holds at once: in each of 132 multiprocessors 6 of forward, 4 of
/// backward. The counts are the same on every GPU, and so are the sums.
inline constexpr int forward_blocks = 6, backward_blocks = 4;
inline constexpr std::int64_t multiprocessors = 132;

/// GELU and its slope for elements of type T.
template <class T, class C>
__device__ C gelu_of(C x) {
  if constexpr (std::is_same_v<T, bfloat16>) return gelu_for_bf16(x);
  return math::gelu(x);
}
template <class T, class C>
__device__ C gelu_slope_of(C x) {
  if constexpr (std::is_same_v<T, bfloat16>) return gelu_slope_for_bf16(x);
  return math::gelu_slope(x);
}

/// Calls compute(row, load(row)) for the rows first, first + step, ... below `end`. The load of the
/// next row is on its way while this one is computed.
template <class Load, class Body>
__device__ void for_each_row_ahead(std::int64_t first, std::int64_t end, std::int64_t step, const Load& load,
                                   const Body& compute) {
  if (first >= end) return;
  auto next = load(first);
  for (std::int64_t row = first; row < end; row += step) {
    const auto loaded = next;
    if (row + step < end) next = load(row + step);
    compute(row, loaded);
  }
}

template <class T>
__device__ std::int64_t first_column() {
  return (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * pack_width<T>;
}

template <class T, class P = Pack<T, pack_width<T>>>
__device__ P pack_at(const T* x, std::int64_t index) {
  return read_pack(reinterpret_cast<const P*>(x + index));
}

/// Each thread has the same columns in all of its rows, and their biases in registers.
template <class T, class C = Compute<T>>
__global__ void __launch_bounds__(largest_block, forward_blocks)
    forward_kernel(const T* x, const T* bias, T* y, std::int64_t rows, std::int64_t D) {
  constexpr int width = pack_width<T>;
  const std::int64_t column = first_column<T>(), step = static_cast<std::int64_t>(gridDim.y) * blockDim.y;
  if (column >= D) return;
  C b[width];
  load_pack(bias + column, b);
  for_each_row_ahead(
      static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y, rows, step,
      [&](std::int64_t row) { return pack_at(x, row * D + column); },
      [&](std::int64_t row, const Pack<T, width>& loaded) {
        C values[width];
#pragma unroll
        for (int k = 0; k < width; ++k) values[k] = gelu_of<T>(static_cast<C>(loaded.values[k]) + b[k]);
        store_pack(values, y + row * D + column);
      });
}

/// Block (c, r): some columns of chunk r of the rows, whose dbias is gathered in registers.
template <class T, class C = Compute<T>>
__global__ void __launch_bounds__(largest_block, backward_blocks)
    backward_kernel(const T* dy, const T* x, const T* bias, T* dx, C* partial, std::int64_t rows, std::int64_t D,
                    std::int64_t grain) {
  constexpr int width = pack_width<T>;
  struct Loaded {
    Pack<T, width> x, dy;
  };
  const std::int64_t column = first_column<T>();
  const std::int64_t begin = blockIdx.y * grain, end = begin + grain < rows ? begin + grain : rows;
  C b[width] = {}, dbias[width] = {};
  if (column < D) load_pack(bias + column, b);
  for_each_row_ahead(
      begin + threadIdx.y, column < D ? end : 0, blockDim.y,
      [&](std::int64_t row) {
        return Loaded{pack_at(x, row * D + column), pack_at(dy, row * D + column)};
      },
      [&](std::int64_t row, const Loaded& loaded) {
        C d[width];
#pragma unroll
        for (int k = 0; k < width; ++k) {
          const C z = static_cast<C>(loaded.x.values[k]) + b[k];
          d[k] = static_cast<C>(loaded.dy.values[k]) * gelu_slope_of<T>(z);
          dbias[k] += d[k];
        }
        store_pack(d, dx + row * D + column);
      });

  __shared__ C sums[largest_block * width];  // (rows of the block, columns of the block)
  const int columns = static_cast<int>(blockDim.x) * width,
            thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
#pragma unroll
  for (int k = 0; k < width; ++k) sums[thread * width + k] = dbias[k];
  block_barrier();
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * columns;
  for (int i = thread; i < columns && first + i < D; i += static_cast<int>(blockDim.x * blockDim.y)) {
    C total = 0;
    for (int row = 0; row < static_cast<int>(blockDim.y); ++row) total += sums[row * columns + i];
    partial[blockIdx.y * D + first + i] = total;
  }
}

template <class T>
void forward_cuda(const T* x, const T* bias, T* y, std::int64_t rows, std::int64_t D) {
  const Tiling tiling(D / pack_width<T>);
  const std::int64_t resident = chunk_count(multiprocessors * forward_blocks, tiling.column_blocks);
  const std::int64_t row_blocks = std::min(resident, chunk_count(rows, tiling.rows));
  launch(forward_kernel<T>, dim3(tiling.column_blocks, static_cast<unsigned>(row_blocks)), tiling.block(), 0,
         current_stream(), x, bias, y, rows, D);
}

template <class T, class C = Compute<T>>
void backward_cuda(const T* dy, const T* x, const T* bias, T* dx, C* partial, std::int64_t rows, std::int64_t D,
                   std::int64_t grain) {
  const Tiling tiling(D / pack_width<T>);
  launch(backward_kernel<T>, dim3(tiling.column_blocks, static_cast<unsigned>(chunk_count(rows, grain))),
         tiling.block(), 0, current_stream(), dy, x, bias, dx, partial, rows, D, grain);
}

/// Rows per partial sum of dbias, where a block adds up: no more blocks than run at once.
template <class T>
std::int64_t rows_per_sum_cuda(std::int64_t rows, std::int64_t D) {
  const std::int64_t column_blocks = Tiling(D / pack_width<T>).column_blocks;
  const std::int64_t chunks = std::max<std::int64_t>(1, multiprocessors * backward_blocks / column_blocks);
  return std::max(rows_per_chunk(D), chunk_count(rows, chunks));
}
#endif

// ---- On tensors, which are row-major ----

/// Rows per partial sum of dbias: a task on the CPU, a block on a GPU.
template <class T>
std::int64_t rows_per_sum([[maybe_unused]] std::int64_t rows, std::int64_t D, [[maybe_unused]] Device device) {
#if VT_CUDA
  if (device.is_cuda()) return rows_per_sum_cuda<T>(rows, D);
#endif
  return rows_per_chunk(D);
}

/// Whether the loops over rows above can be used; a GPU wants whole packs. Else the map driver does
/// it in more passes.
template <class T>
bool rows_fit(const Tensor& x, const Tensor& bias, const Tensor& dy) {
  if (x.device().is_cpu()) return true;
  const auto address = [](const Tensor& t) { return t.defined() ? static_cast<const char*>(t.raw_data()) : nullptr; };
  return x.size(-1) % pack_width<T> == 0 && are_aligned(16, address(x), address(bias), address(dy));
}

Tensor forward(const Tensor& x, const Tensor& bias) {
  const std::int64_t D = x.size(-1), rows = D > 0 ? x.numel() / D : 0;
  Tensor y = empty_for("bias_gelu", x.shape(), x.dtype(), x.device());
  if (y.numel() == 0) return y;
  dispatch_floating(x.dtype(), "bias_gelu", [&]<class T>(TypeTag<T>) {
    if (!rows_fit<T>(x, bias, {})) return map_into<T, T, T>(BiasGelu{}, y, x, bias);
#if VT_CUDA
    if (x.device().is_cuda()) return forward_cuda<T>(x.data<T>(), bias.data<T>(), y.data<T>(), rows, D);
#endif
    forward_cpu<T>(x.data<T>(), bias.data<T>(), y.data<T>(), rows, D);
  });
  return y;
}

struct BiasGeluGradients {
  Tensor dx, dbias;
};

BiasGeluGradients backward(const Tensor& dy, const Tensor& x, const Tensor& bias) {
  const std::int64_t D = x.size(-1), rows = D > 0 ? x.numel() / D : 0;
  Tensor dx = empty_for("bias_gelu", x.shape(), x.dtype(), x.device());
  return dispatch_floating(x.dtype(), "bias_gelu", [&]<class T>(TypeTag<T>) -> BiasGeluGradients {
    if (!rows_fit<T>(x, bias, dy) || x.numel() == 0) {
      map_into<T, T, T, T>(BiasGeluBackward{}, dx, dy, x, bias);
      return {dx, sum_to(dx, bias.shape())};
    }
    using C = Compute<T>;
    const std::int64_t grain = rows_per_sum<T>(rows, D, x.device());
    Tensor partial = empty({chunk_count(rows, grain), D}, dtype_of<C>(), x.device());
    const auto run = [&] {
#if VT_CUDA
      if (x.device().is_cuda()) {
        return backward_cuda<T>(dy.data<T>(), x.data<T>(), bias.data<T>(), dx.data<T>(), partial.data<C>(), rows, D,
                                grain);
      }
#endif
      backward_cpu<T>(dy.data<T>(), x.data<T>(), bias.data<T>(), dx.data<T>(), partial.data<C>(), rows, D);
    };
    run();
    return {dx, cast_data(sum(partial, {0}), x.dtype())};
  });
}

}  // namespace

Tensor bias_gelu(const Tensor& x, const Tensor& bias) {
  check_operands("bias_gelu", x, bias);
  VT_CHECK(x.dim() >= 1 && bias.shape() == Shape{x.size(-1)},
           "bias_gelu: bias has shape {} and x {}, expected the last dimension of x", to_string(bias.shape()),
           to_string(x.shape()));
  if (is_recording_twice()) return bias_gelu_composed(x, bias);
  const Tensor y = forward(contiguous_data(x), contiguous_data(bias));
  return record(
      "bias_gelu", y, {x, bias},
      [x = Saved(x, "bias_gelu"), bias = Saved(bias, "bias_gelu")](const Tensor& dy, BackwardContext& context) {
        const auto d = backward(contiguous_data(dy), contiguous_data(*x), contiguous_data(*bias));
        if (context.wants(0)) context.add(0, d.dx);
        if (context.wants(1)) context.add(1, d.dbias);
      });
}

}  // namespace vitrine
