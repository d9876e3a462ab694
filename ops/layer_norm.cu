// Layer normalisation over the last dim. Ba, Kiros, Hinton, "Layer normalization" (2016), section 3.
#include <cmath>
#include <vector>

#include "ops/composed.h"
#include "ops/elementwise.h"
#include "ops/lanes.h"
#include "ops/ops.h"
#include "ops/warp.h"

namespace vitrine {

// ---- layer_norm: y = n weight + bias with n = (x - mean) rstd, rstd = 1 / sqrt(var + epsilon), per row of x (..., D) ----
//
// The mean of a row far from zero is known only to within a rounding error of that size, which would spoil x - mean. So
// the mean is kept as two numbers: `center`, its rounded value, and `rest`, the mean of x - center.

namespace {

enum Statistic { center, rest, rstd, statistic_count };  // rows of the tensor of statistics, (3, rows)

template <class C>
struct RowStatistics {
  C center, rest, rstd;
  VT_HD C normalize(C x) const { return ((x - center) - rest) * rstd; }
};

/// Statistics from the sums of (x - center) and (x - center)^2 over a row of D elements.
template <class C>
VT_HD RowStatistics<C> row_statistics(C middle, C sum, C sum_of_squares, C D, C epsilon) {
  const C correction = sum / D;
  C variance = sum_of_squares / D - correction * correction;
  if (variance < 0) variance = 0;  // by rounding; NaN stays
  return {middle, correction, 1 / std::sqrt(variance + epsilon)};
}

template <class C>
VT_HD RowStatistics<C> read_statistics(const C* statistics, std::int64_t row, std::int64_t rows) {
  return {statistics[center * rows + row], statistics[rest * rows + row], statistics[rstd * rows + row]};
}

template <class C>
VT_HD void write_statistics(const RowStatistics<C>& s, C* statistics, std::int64_t row, std::int64_t rows) {
  statistics[center * rows + row] = s.center;
  statistics[rest * rows + row] = s.rest;
  statistics[rstd * rows + row] = s.rstd;
}

/// Rows per task of parallel_for, and per partial sum of dweight and dbias: about 2^14 elements.
std::int64_t rows_per_chunk(std::int64_t D) { return std::clamp<std::int64_t>((1 << 14) / D, 1, 256); }

}  // namespace

// ---- CPU: two passes over each row, which stays in the first-level cache ----

namespace {

template <class T, class C = Compute<T>>
RowStatistics<C> measure_row(const T* x, std::int64_t D, C epsilon) {
  const C middle = lane_sum<C>(D, [&](auto i) { return static_cast<C>(x[i]); }) / static_cast<C>(D);
  const C sum = lane_sum<C>(D, [&](auto i) { return static_cast<C>(x[i]) - middle; });
  const C sum_of_squares = lane_sum<C>(D, [&](auto i) {
    const C difference = static_cast<C>(x[i]) - middle;
    return difference * difference;
  });
  return row_statistics(middle, sum, sum_of_squares, static_cast<C>(D), epsilon);
}

template <class T, class C = Compute<T>>
void layer_norm_cpu(const T* x, const C* weight, const C* bias, T* y, C* statistics, std::int64_t rows, std::int64_t D,
                    double epsilon) {
  parallel_for(rows, rows_per_chunk(D), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* __restrict in = x + row * D;
      T* __restrict out = y + row * D;
      const auto s = measure_row(in, D, static_cast<C>(epsilon));
      write_statistics(s, statistics, row, rows);
      for (std::int64_t i = 0; i < D; ++i) {
        out[i] = static_cast<T>(s.normalize(static_cast<C>(in[i])) * weight[i] + bias[i]);
      }
    }
  });
}

/// n and g = dy weight of one row, and its part of dweight and dbias. All (D), none overlapping: `__restrict` on the
/// parameters is what lets the compiler vectorise a loop with so many arrays.
template <class T, class C>
void layer_norm_backward_row(const T* __restrict x, const C* __restrict weight, const T* __restrict dy, C* __restrict n,
                             C* __restrict g, C* __restrict dweight, C* __restrict dbias, RowStatistics<C> s,
                             std::int64_t D) {
  for (std::int64_t i = 0; i < D; ++i) {
    const C dy_i = static_cast<C>(dy[i]), n_i = s.normalize(static_cast<C>(x[i]));
    n[i] = n_i;
    g[i] = dy_i * weight[i];
    dweight[i] += dy_i * n_i;
    dbias[i] += dy_i;
  }
}

/// dx = rstd (g - mean(g) - n mean(g n)) of one row.
template <class T, class C>
void layer_norm_dx_row(const C* __restrict n, const C* __restrict g, T* __restrict dx, C rstd, std::int64_t D) {
  const C mean_g = lane_sum<C>(D, [=](auto i) { return g[i]; }) / static_cast<C>(D);
  const C mean_gn = lane_sum<C>(D, [=](auto i) { return g[i] * n[i]; }) / static_cast<C>(D);
  for (std::int64_t i = 0; i < D; ++i) dx[i] = static_cast<T>(rstd * (g[i] - mean_g - n[i] * mean_gn));
}

/// partial is (chunks, 2, D): every chunk's sums of dy n and dy, for dweight and dbias. dx may be null.
template <class T, class C = Compute<T>>
void layer_norm_backward_cpu(const T* x, const C* weight, const T* dy, const C* statistics, T* dx, C* partial,
                             std::int64_t rows, std::int64_t D) {
  const std::int64_t grain = rows_per_chunk(D);
  parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    C* dweight = partial + begin / grain * 2 * D;
    C* dbias = dweight + D;
    std::fill(dweight, dweight + 2 * D, C(0));
    std::vector<C> n(static_cast<std::size_t>(D)), g(n);
    for (std::int64_t row = begin; row < end; ++row) {
      const auto s = read_statistics(statistics, row, rows);
      layer_norm_backward_row(x + row * D, weight, dy + row * D, n.data(), g.data(), dweight, dbias, s, D);
      if (dx) layer_norm_dx_row(n.data(), g.data(), dx + row * D, s.rstd, D);
    }
  });
}

}  // namespace

// ---- CUDA: one warp per row; dweight and dbias by one thread per column of a chunk of rows ----

#if VT_CUDA
namespace {

template <class T, class C = Compute<T>>
__global__ void layer_norm_kernel(const T* x, const C* weight, const C* bias, T* y, C* statistics, std::int64_t rows,
                                  std::int64_t D, C epsilon) {
  for_each_row_of_grid(rows, [&](std::int64_t row) {
    const T* in = x + row * D;
    T* out = y + row * D;
    const C middle = warp_sum<C>(D, [&](std::int64_t i) { return static_cast<C>(in[i]); }) / static_cast<C>(D);
    const C sum = warp_sum<C>(D, [&](std::int64_t i) { return static_cast<C>(in[i]) - middle; });
    const C sum_of_squares = warp_sum<C>(D, [&](std::int64_t i) {
      const C difference = static_cast<C>(in[i]) - middle;
      return difference * difference;
    });
    const auto s = row_statistics(middle, sum, sum_of_squares, static_cast<C>(D), epsilon);
    if (threadIdx.x == 0) write_statistics(s, statistics, row, rows);
    warp_for(
        D, [&](std::int64_t i) { out[i] = static_cast<T>(s.normalize(static_cast<C>(in[i])) * weight[i] + bias[i]); });
  });
}

template <class T, class C = Compute<T>>
__global__ void layer_norm_dx_kernel(const T* x, const C* weight, const T* dy, const C* statistics, T* dx,
                                     std::int64_t rows, std::int64_t D) {
  for_each_row_of_grid(rows, [&](std::int64_t row) {
    const auto s = read_statistics(statistics, row, rows);
    const T *in = x + row * D, *dout = dy + row * D;
    T* din = dx + row * D;
    const auto g = [&](std::int64_t i) { return static_cast<C>(dout[i]) * weight[i]; };
    const auto n = [&](std::int64_t i) { return s.normalize(static_cast<C>(in[i])); };
    const C mean_g = warp_sum<C>(D, g) / static_cast<C>(D);
    const C mean_gn = warp_sum<C>(D, [&](std::int64_t i) { return g(i) * n(i); }) / static_cast<C>(D);
    warp_for(D, [&](std::int64_t i) { din[i] = static_cast<T>(s.rstd * (g(i) - mean_g - n(i) * mean_gn)); });
  });
}

/// partial is (chunks, 2, D), as on the CPU.
template <class T, class C = Compute<T>>
__global__ void layer_norm_columns_kernel(const T* x, const T* dy, const C* statistics, C* partial, std::int64_t rows,
                                          std::int64_t D, std::int64_t grain) {
  const std::int64_t items = (rows + grain - 1) / grain * D, step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < items;
       item += step) {
    const std::int64_t chunk = item / D, i = item % D, begin = chunk * grain;
    const std::int64_t end = begin + grain < rows ? begin + grain : rows;
    C dweight = 0, dbias = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      const C dy_i = static_cast<C>(dy[row * D + i]);
      dweight += dy_i * read_statistics(statistics, row, rows).normalize(static_cast<C>(x[row * D + i]));
      dbias += dy_i;
    }
    partial[chunk * 2 * D + i] = dweight;
    partial[chunk * 2 * D + D + i] = dbias;
  }
}

template <class T, class C = Compute<T>>
void layer_norm_backward_cuda(const T* x, const C* weight, const T* dy, const C* statistics, T* dx, C* partial,
                              std::int64_t rows, std::int64_t D) {
  if (rows == 0) return;
  if (dx) launch_rows(layer_norm_dx_kernel<T>, rows, x, weight, dy, statistics, dx, rows, D);
  const std::int64_t grain = rows_per_chunk(D);
  launch(layer_norm_columns_kernel<T>, grid_for(chunk_count(rows, grain) * D, 128), dim3(128), 0, current_stream(), x,
         dy, statistics, partial, rows, D, grain);
}

}  // namespace
#endif

// ---- The op ----

namespace {

/// Gradients of one layer_norm. All tensors are row-major; dx is made only if `wants_dx`.
struct LayerNormGradients {
  Tensor dx, dweight, dbias;
};

LayerNormGradients layer_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& statistics,
                                       const Tensor& dy, bool wants_dx) {
  const std::int64_t D = x.size(-1), rows = statistics.size(1);
  LayerNormGradients result;
  if (wants_dx) result.dx = empty_like(x);
  dispatch_floating(x.dtype(), "layer_norm", [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    Tensor partial = empty({rows > 0 ? chunk_count(rows, rows_per_chunk(D)) : 0, 2, D}, dtype_of<C>(), x.device());
    auto* backward = layer_norm_backward_cpu<T>;
#if VT_CUDA
    if (x.device().is_cuda()) backward = layer_norm_backward_cuda<T>;
#endif
    backward(x.data<T>(), weight.data<C>(), dy.data<T>(), statistics.data<C>(),
             wants_dx ? result.dx.data<T>() : nullptr, partial.data<C>(), rows, D);
    const Tensor sums = sum(partial, {0});  // (2, D)
    result.dweight = select(sums, 0, 0);
    result.dbias = select(sums, 0, 1);
  });
  return result;
}

/// weight or bias as the kernels read it: f32 where x is bf16, for a factor in bf16 would be as coarse as the result.
Tensor as_factors(const Tensor& parameter) {
  const bool is_f64 = parameter.dtype() == DType::f64;
  return contiguous_data(cast_data(parameter, is_f64 ? DType::f64 : DType::f32));
}

void check_layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  const bool mixed = x.dtype() == DType::bf16 && weight.dtype() == DType::f32;
  if (!mixed) check_operands("layer_norm", x, weight);
  check_operands("layer_norm", weight, bias);
  check_one_device("layer_norm", x, weight);
  VT_CHECK(x.dim() >= 1 && x.size(-1) >= 1, "layer_norm: x has shape {}, expected a last dimension of at least 1",
           to_string(x.shape()));
  VT_CHECK(epsilon >= 0, "layer_norm: epsilon is {}, expected at least 0", epsilon);
  const auto check_size = [&](const char* name, const Tensor& parameter) {
    VT_CHECK(parameter.shape() == Shape{x.size(-1)},
             "layer_norm: {} has shape {}, expected ({}) = last dimension of x {}", name, to_string(parameter.shape()),
             x.size(-1), to_string(x.shape()));
  };
  check_size("weight", weight);
  check_size("bias", bias);
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  check_layer_norm(x, weight, bias, epsilon);
  if (is_recording_twice()) return layer_norm_composed(x, weight, bias, epsilon);
  const std::int64_t D = x.size(-1), rows = x.numel() / D;
  const Tensor x_rows = contiguous_data(x), w = as_factors(weight), b = as_factors(bias);
  Tensor y = empty(x.shape(), x.dtype(), x.device());
  Tensor statistics;
  dispatch_floating(x.dtype(), "layer_norm", [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    statistics = empty({statistic_count, rows}, dtype_of<C>(), x.device());
    const T* in = x_rows.data<T>();
    const C *scale = w.data<C>(), *shift = b.data<C>();
#if VT_CUDA
    if (x.device().is_cuda()) {
      launch_rows(layer_norm_kernel<T>, rows, in, scale, shift, y.data<T>(), statistics.data<C>(), rows, D,
                  static_cast<C>(epsilon));
      return;
    }
#endif
    layer_norm_cpu<T>(in, scale, shift, y.data<T>(), statistics.data<C>(), rows, D, epsilon);
  });
  return record(
      "layer_norm", y, {x, weight, bias},
      [x = Saved(x, "layer_norm"), w = Saved(weight, "layer_norm"), statistics](const Tensor& dy, Chain& chain) {
        const auto d =
            layer_norm_backward(contiguous_data(*x), as_factors(*w), statistics, contiguous_data(dy), chain.wants(0));
        if (chain.wants(0)) chain.add(0, d.dx);
        if (chain.wants(1)) chain.add(1, cast(d.dweight, w->dtype()));
        if (chain.wants(2)) chain.add(2, cast(d.dbias, w->dtype()));
      });
}

Tensor layer_norm_composed(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  const Tensor centered = x - mean(x, {-1}, true);
  const Tensor variance = mean(square(centered), {-1}, true);
  return centered * rsqrt(variance + epsilon) * cast(weight, x.dtype()) + cast(bias, x.dtype());
}

}  // namespace vitrine
