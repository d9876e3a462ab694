// Layer normalisation over the last dim. Ba, Kiros, Hinton 2016, "Layer normalization", section 3.
//
// Of each row of x (..., D), with weight (D) and bias (D) for all rows:
//
//   mean = sum(x) / D      var = sum((x - mean)^2) / D      rstd = 1 / sqrt(var + epsilon)
//   n = (x - mean) rstd
//   y = n weight + bias
//
// The fast code has two passes over a row, which stays in the first-level cache: here on the CPU,
// in ops/norm/layer_norm_cuda.h on a GPU. The same as plain loops: ops/norm/reference.h; from naive
// to fast: benchmarks/ladders.
#include <utility>
#include <vector>

#include "ops/composed.h"
#include "ops/drivers/elementwise.h"
#include "ops/drivers/lanes.h"
#include "ops/norm/layer_norm_cuda.h"
#include "ops/norm/layer_norm_operands.h"
#include "ops/norm/norm_statistics.h"
#include "ops/ops.h"

namespace vitrine {

// ---- The definition ----

Tensor layer_norm_composed(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  const Tensor centered = x - mean(x, {-1}, true);
  const Tensor variance = mean(square(centered), {-1}, true);
  return centered * rsqrt(variance + epsilon) * cast(weight, x.dtype()) + cast(bias, x.dtype());
}

// ---- The gradient ----
//
// dbias = sum of dy and dweight = sum of dy n, over all rows. What reaches n is g = dy weight. From
// there, x[i] is reached in three ways:
//   n[i] itself    dn[i]/dx[i] = rstd                                          rstd g[i]
//   mean           dL/dmean = -rstd sum(g),     dmean/dx[i] = 1/D             -rstd mean(g)
//   rstd           dL/drstd = sum(g n) / rstd,  drstd/dx[i] = -rstd^2 n[i]/D  -rstd n[i] mean(g n)
// (var has no way through mean: its derivative by the mean is -2 mean(x - mean) = 0.) Together:
//   dx = rstd (g - mean(g) - n mean(g n))
// Why: y stays the same where all of a row is shifted, or stretched (but for epsilon). So dx has no
// part along (1, ..., 1) and none along n, and these are the two that are taken from g.

namespace {

using namespace norm_statistics;
using layer_norm_passes::Backward;
using layer_norm_passes::Forward;
using layer_norm_passes::rows_per_chunk_cuda;

// ---- CPU, forward ----

template <class T, class C>
RowStatistics<C> measure_row(const T* x, std::int64_t D, C epsilon) {
  const C mean = lane_sum<C>(D, [&](auto i) { return static_cast<C>(x[i]); }) / static_cast<C>(D);
  const C sum = lane_sum<C>(D, [&](auto i) { return static_cast<C>(x[i]) - mean; });
  const C sum_of_squares = lane_sum<C>(D, [&](auto i) {
    const C difference = static_cast<C>(x[i]) - mean;
    return difference * difference;
  });
  return row_statistics(mean, sum, sum_of_squares, static_cast<C>(D), epsilon);
}

/// values = x + residual, and sum the same in the dtype of the operands.
template <class T, class C>
void add_rows(const T* __restrict x, const T* __restrict residual, C* __restrict values, T* __restrict sum,
              std::int64_t D) {
  for (std::int64_t i = 0; i < D; ++i) {
    values[i] = static_cast<C>(x[i]) + static_cast<C>(residual[i]);
    sum[i] = static_cast<T>(values[i]);
  }
}

template <class T, class C>
RowStatistics<C> normalize_row(const T* __restrict x, const C* __restrict weight, const C* __restrict bias,
                               auto* __restrict y, std::int64_t D, C epsilon) {
  const auto s = measure_row(x, D, epsilon);
  for (std::int64_t i = 0; i < D; ++i) {
    y[i] = static_cast<std::remove_reference_t<decltype(*y)>>(s.normalize(static_cast<C>(x[i])) * weight[i] + bias[i]);
  }
  return s;
}

template <class T, class C = Compute<T>>
void forward_cpu(const Forward<T, C>& f) {
  const std::int64_t D = f.D;
  parallel_for(f.rows, rows_per_chunk(D), [&](std::int64_t begin, std::int64_t end) {
    std::vector<C> values(f.residual ? static_cast<std::size_t>(D) : 0);
    for (std::int64_t row = begin; row < end; ++row) {
      if (f.residual) add_rows(f.x + row * D, f.residual + row * D, values.data(), f.sum + row * D, D);
      T* y = f.y + row * D;
      const auto s = f.residual ? normalize_row(values.data(), f.weight, f.bias, y, D, f.epsilon)
                                : normalize_row(f.x + row * D, f.weight, f.bias, y, D, f.epsilon);
      write_statistics(s, f.statistics, row, f.rows);
    }
  });
}

// ---- CPU, backward ----

/// n and g = dy weight of one row, and the row's part of dweight and dbias. All are (D) and none
/// overlap: the compiler vectorises a loop over seven arrays only where `__restrict` on the
/// parameters says so.
template <class T, class C>
void backward_row(const T* __restrict x, const C* __restrict weight, const T* __restrict dy, C* __restrict n,
                  C* __restrict g, C* __restrict dweight, C* __restrict dbias, RowStatistics<C> s, std::int64_t D) {
  for (std::int64_t i = 0; i < D; ++i) {
    const C dy_i = static_cast<C>(dy[i]), n_i = s.normalize(static_cast<C>(x[i]));
    n[i] = n_i;
    g[i] = dy_i * weight[i];
    dweight[i] += dy_i * n_i;
    dbias[i] += dy_i;
  }
}

/// dx (+)= rstd (g - mean(g) - n mean(g n)) of one row.
template <class T, class C>
void dx_row(const C* __restrict n, const C* __restrict g, T* __restrict dx, bool add, C rstd, std::int64_t D) {
  const C mean_g = lane_sum<C>(D, [=](auto i) { return g[i]; }) / static_cast<C>(D);
  const C mean_gn = lane_sum<C>(D, [=](auto i) { return g[i] * n[i]; }) / static_cast<C>(D);
  for (std::int64_t i = 0; i < D; ++i) {
    const C before = add ? static_cast<C>(dx[i]) : 0;
    dx[i] = static_cast<T>(before + rstd * (g[i] - mean_g - n[i] * mean_gn));
  }
}

template <class T, class C = Compute<T>>
void backward_cpu(const Backward<T, C>& b) {
  const std::int64_t D = b.D, grain = rows_per_chunk(D);
  parallel_for(b.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    C* dweight = b.partial + begin / grain * 2 * D;
    C* dbias = dweight + D;
    std::fill(dweight, dweight + 2 * D, C(0));
    std::vector<C> n(static_cast<std::size_t>(D)), g(n);
    for (std::int64_t row = begin; row < end; ++row) {
      const auto s = read_statistics(b.statistics, row, b.rows);
      backward_row(b.x + row * D, b.weight, b.dy + row * D, n.data(), g.data(), dweight, dbias, s, D);
      if (b.dx) dx_row(n.data(), g.data(), b.dx + row * D, b.add, s.rstd, D);
    }
  });
}

// ---- Both passes on tensors, which are row-major ----

/// weight or bias as the kernels read it: f32 where x is bf16, for a factor in bf16 would be as
/// coarse as the result.
Tensor as_factors(const Tensor& parameter) {
  const bool is_f64 = parameter.dtype() == DType::f64;
  return contiguous_data(cast_data(parameter, is_f64 ? DType::f64 : DType::f32));
}

struct Outputs {
  Tensor sum, y, statistics;  // sum is x where there is no residual
};

Outputs forward(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias, double epsilon) {
  const std::int64_t D = x.size(-1), rows = x.numel() / D;
  const Tensor x_rows = contiguous_data(x), w = as_factors(weight), b = as_factors(bias);
  const Tensor residual_rows = residual.defined() ? contiguous_data(residual) : Tensor();
  Outputs out{residual.defined() ? empty_for("layer_norm", x.shape(), x.dtype(), x.device()) : x_rows,
              empty_for("layer_norm", x.shape(), x.dtype(), x.device()), Tensor()};
  dispatch_floating(x.dtype(), "layer_norm", [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    out.statistics = empty({statistic_count, rows}, dtype_of<C>(), x.device());
    const Forward<T, C> f{x_rows.data<T>(),
                          residual.defined() ? residual_rows.data<T>() : nullptr,
                          residual.defined() ? out.sum.template data<T>() : nullptr,
                          w.data<C>(),
                          b.data<C>(),
                          out.y.template data<T>(),
                          out.statistics.template data<C>(),
                          rows,
                          D,
                          static_cast<C>(epsilon)};
#if VT_CUDA
    if (x.device().is_cuda()) return layer_norm_cuda::forward<T>(f);
#endif
    forward_cpu<T>(f);
  });
  return out;
}

struct ParameterGradients {
  Tensor dweight, dbias;
};

/// `dx` is undefined where it is not wanted; `add` adds to what it holds.
ParameterGradients backward(const Tensor& x, const Tensor& weight, const Tensor& statistics, const Tensor& dy,
                            Tensor& dx, bool add) {
  const std::int64_t D = x.size(-1), rows = statistics.size(1);
  Tensor partial;
  dispatch_floating(x.dtype(), "layer_norm", [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const std::int64_t grain = x.device().is_cuda() ? rows_per_chunk_cuda<T>(rows, D) : rows_per_chunk(D);
    partial = empty({chunk_count(rows, grain), 2, D}, statistics.dtype(), x.device());
    const Backward<T, C> b{x.data<T>(),
                           weight.data<C>(),
                           dy.data<T>(),
                           statistics.data<C>(),
                           dx.defined() ? dx.data<T>() : nullptr,
                           add,
                           partial.template data<C>(),
                           rows,
                           D};
#if VT_CUDA
    if (x.device().is_cuda()) return layer_norm_cuda::backward<T>(b);
#endif
    backward_cpu<T>(b);
  });
  const Tensor sums = sum(partial, {0});  // (2, D)
  return {select(sums, 0, 0), select(sums, 0, 1)};
}

// ---- The ops ----

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

/// Records y = layer_norm(x), whose statistics are given. In a network x goes on beside the norm,
/// and that gradient is there first: then dx is added to it in the same pass.
Tensor record_layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Outputs& out) {
  return record("layer_norm", out.y, {x, weight, bias},
                [x = Saved(x, "layer_norm"), w = Saved(weight, "layer_norm"), statistics = out.statistics](
                    const Tensor& dy, BackwardContext& context) {
                  Tensor dx = context.accumulation_buffer(0);
                  const bool add = dx.defined();
                  if (!add && context.wants(0)) dx = empty(x->shape(), x->dtype(), x->device());
                  const auto d =
                      backward(contiguous_data(*x), as_factors(*w), statistics, contiguous_data(dy), dx, add);
                  if (!add && context.wants(0)) context.add(0, dx);
                  if (context.wants(1)) context.add(1, cast(d.dweight, w->dtype()));
                  if (context.wants(2)) context.add(2, cast(d.dbias, w->dtype()));
                });
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  check_layer_norm(x, weight, bias, epsilon);
  if (is_recording_twice()) return layer_norm_composed(x, weight, bias, epsilon);
  return record_layer_norm(x, weight, bias, forward(x, Tensor(), weight, bias, epsilon));
}

SumAndNorm add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
                          double epsilon) {
  check_operands("add_layer_norm", x, residual);
  VT_CHECK(x.shape() == residual.shape(), "add_layer_norm: x has shape {} and residual {}, expected one shape",
           to_string(x.shape()), to_string(residual.shape()));
  check_layer_norm(x, weight, bias, epsilon);
  if (is_recording_twice()) {
    const Tensor sum = x + residual;
    return {sum, layer_norm_composed(sum, weight, bias, epsilon)};
  }
  const Outputs out = forward(x, residual, weight, bias, epsilon);
  const Tensor sum = record("add", out.sum, {x, residual}, [](const Tensor& dy, BackwardContext& context) {
    context.add(0, dy);
    context.add(1, dy);
  });
  return {sum, record_layer_norm(sum, weight, bias, out)};
}

}  // namespace vitrine
