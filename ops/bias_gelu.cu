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
inline constexpr int block_warps = 8;

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

template <class T>
__global__ void forward_kernel(const T* x, const T* bias, T* y, std::int64_t rows, std::int64_t D) {
  using C = Compute<T>;
  constexpr int width = pack_width<T>;
  const std::int64_t packs_per_row = D / width, step = static_cast<std::int64_t>(gridDim.y) * blockDim.y;
  const std::int64_t pack = static_cast<std::int64_t>(blockIdx.x) * warp_threads + threadIdx.x;
  if (pack >= packs_per_row) return;
  C b[width];  // the same for all rows of this thread
  load_pack(bias + pack * width, b);
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < rows; row += step) {
    C values[width];
    load_pack(x + row * D + pack * width, values);
#pragma unroll
    for (int k = 0; k < width; ++k) values[k] = gelu_of<T>(values[k] + b[k]);
    store_pack(values, y + row * D + pack * width);
  }
}

/// Block (c, r): the columns of 32 packs from 32 c on, and chunk r of the rows; warp w takes every
/// eighth row from w on.
template <class T, class C = Compute<T>>
__global__ void backward_kernel(const T* dy, const T* x, const T* bias, T* dx, C* partial, std::int64_t rows,
                                std::int64_t D, std::int64_t grain) {
  constexpr int width = pack_width<T>;
  __shared__ C sums[block_warps][warp_threads][width];
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * warp_threads + threadIdx.x) * width;
  const std::int64_t begin = blockIdx.y * grain, end = begin + grain < rows ? begin + grain : rows;
  C dbias[width] = {};
  if (column < D) {
    C b[width];
    load_pack(bias + column, b);
    for (std::int64_t row = begin + threadIdx.y; row < end; row += block_warps) {
      C values[width], d[width];
      load_pack(x + row * D + column, values);
      load_pack(dy + row * D + column, d);
#pragma unroll
      for (int k = 0; k < width; ++k) {
        d[k] *= gelu_slope_of<T>(values[k] + b[k]);
        dbias[k] += d[k];
      }
      store_pack(d, dx + row * D + column);
    }
  }
  for (int k = 0; k < width; ++k) sums[threadIdx.y][threadIdx.x][k] = dbias[k];
  block_barrier();
  if (threadIdx.y > 0 || column >= D) return;
  for (int k = 0; k < width; ++k) {
    C total = 0;
    for (int warp = 0; warp < block_warps; ++warp) total += sums[warp][threadIdx.x][k];
    partial[blockIdx.y * D + column + k] = total;
  }
}

unsigned column_blocks(std::int64_t D, int width) {
  return static_cast<unsigned>(chunk_count(D, std::int64_t{warp_threads} * width));
}

template <class T>
void forward_cuda(const T* x, const T* bias, T* y, std::int64_t rows, std::int64_t D) {
  const std::int64_t row_blocks = std::min<std::int64_t>(chunk_count(rows, block_warps), 4096);
  launch(forward_kernel<T>, dim3(column_blocks(D, pack_width<T>), static_cast<unsigned>(row_blocks)),
         dim3(warp_threads, block_warps), 0, current_stream(), x, bias, y, rows, D);
}

template <class T, class C = Compute<T>>
void backward_cuda(const T* dy, const T* x, const T* bias, T* dx, C* partial, std::int64_t rows, std::int64_t D,
                   std::int64_t grain) {
  launch(backward_kernel<T>, dim3(column_blocks(D, pack_width<T>), static_cast<unsigned>(chunk_count(rows, grain))),
         dim3(warp_threads, block_warps), 0, current_stream(), dy, x, bias, dx, partial, rows, D, grain);
}
#endif

// ---- On tensors, which are row-major ----

/// Rows per partial sum of dbias: a task on the CPU; a block on a GPU, which has at most 512 of
/// them.
std::int64_t rows_per_sum(std::int64_t rows, std::int64_t D, Device device) {
  return device.is_cuda() ? std::max(rows_per_chunk(D), chunk_count(rows, 512)) : rows_per_chunk(D);
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
    const std::int64_t grain = rows_per_sum(rows, D, x.device());
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
