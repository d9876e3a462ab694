// Normalisation of images (B, C, ...): batch_norm, group_norm, and standardize_weight for filters.
//
// A set is the elements that share a mean and a (biased) variance: of a channel, over all images
// (batch_norm), or of a group of neighbouring channels of one image (group_norm). Of each set, with
// weight (C) and bias (C):
//
//   rstd = 1 / sqrt(var + epsilon)      n = (x - mean) rstd      y = n weight[c] + bias[c]
//
// In evaluation, batch_norm takes mean and var of the running statistics. The loops over sets and
// over planes, on both devices, are in ops/norm/plane_norm.h.
#include "ops/composed.h"
#include "ops/norm/plane_norm.h"
#include "ops/ops.h"

namespace vitrine {

// ---- The definitions ----

namespace {

std::int64_t plane_size(const Tensor& x) {
  std::int64_t size = 1;
  for (int d = 2; d < x.dim(); ++d) size *= x.size(d);
  return size;
}

/// (C) as it broadcasts to x (B, C, ...)
Tensor per_channel(const Tensor& factors, const Tensor& x) {
  Shape shape = Dims::filled(x.dim(), 1);
  shape[1] = x.size(1);
  return reshape(cast(factors, x.dtype()), shape);
}

}  // namespace

Tensor batch_norm_composed(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  Dims dims{0};
  for (int d = 2; d < x.dim(); ++d) dims.push_back(d);
  const Tensor centered = x - mean(x, dims, true);
  const Tensor variance = mean(square(centered), dims, true);
  return centered * rsqrt(variance + epsilon) * per_channel(weight, x) + per_channel(bias, x);
}

Tensor group_norm_composed(const Tensor& x, std::int64_t groups, const Tensor& weight, const Tensor& bias,
                           double epsilon) {
  const std::int64_t B = x.size(0), C = x.size(1);
  const Tensor rows = reshape(x, {B, groups, C / groups * plane_size(x)});
  const Tensor centered = rows - mean(rows, {-1}, true);
  const Tensor n = centered * rsqrt(mean(square(centered), {-1}, true) + epsilon);
  return reshape(n, x.shape()) * per_channel(weight, x) + per_channel(bias, x);
}

// ---- The gradient ----
//
// With g = dy weight[c], and means over the set:
//   dbias[c] = sum of dy,  dweight[c] = sum of dy n   over the elements of channel c
//   dx = rstd (g - mean(g) - n mean(g n))             where mean and var are those of x
//   dx = rstd g                                       where they are the running statistics
// Why: a set is to these ops what a row is to layer_norm, and dx is derived as there
// (ops/norm/layer_norm.cu). Running statistics do not depend on x: the two means fall away.

namespace {

using plane_norm::Planes;

// ---- Forward, on row-major tensors without a trace ----

/// The statistics of every set, (3, sets). Moves the running statistics, if there are any.
Tensor measure(const char* op, const Planes& planes, const Tensor& x, double epsilon,
               const RunningStatistics& running = {}, double momentum = 0) {
  return dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    Tensor sums = empty({2, planes.count}, dtype_of<C>(), x.device());
    Tensor statistics = empty({plane_norm::statistic_count, planes.sets}, dtype_of<C>(), x.device());
    const auto find_moments = [&](const C* means) {
#if VT_CUDA
      if (x.device().is_cuda()) {
        return launch_rows(plane_norm::moments_kernel<T>, planes.count, planes, x.data<T>(), means, sums.data<C>());
      }
#endif
      plane_norm::moments_cpu<T>(planes, x.data<T>(), means, sums.data<C>());
    };
    Tensor mean = running.mean, variance = running.variance;
    for (const Tensor& changed : {mean, variance}) {
      if (changed.defined()) changed.storage()->bump_version();
    }
    find_moments(nullptr);
    plane_norm::for_each(x.device(), planes.sets,
                         plane_norm::FindMean<C>{planes, sums.data<C>(), statistics.data<C>()});
    find_moments(statistics.data<C>());  // the means are its first row
    plane_norm::for_each(
        x.device(), planes.sets,
        plane_norm::FindVariance<C>{planes, sums.data<C>(), statistics.data<C>(), static_cast<C>(epsilon),
                                    static_cast<C>(momentum), mean.defined() ? mean.data<C>() : nullptr,
                                    variance.defined() ? variance.data<C>() : nullptr});
    return statistics;
  });
}

Tensor normalize(const char* op, const Planes& planes, const Tensor& x, const Tensor& statistics, const Tensor& weight,
                 const Tensor& bias) {
  Tensor y = empty(x.shape(), x.dtype(), x.device());
  dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const C *s = statistics.data<C>(), *scale = weight.data<C>(), *shift = bias.data<C>();
#if VT_CUDA
    if (x.device().is_cuda()) {
      return launch_rows(plane_norm::normalize_kernel<T>, planes.count, planes, x.data<T>(), s, scale, shift,
                         y.data<T>());
    }
#endif
    plane_norm::normalize_cpu<T>(planes, x.data<T>(), s, scale, shift, y.data<T>());
  });
  return y;
}

// ---- Backward ----

struct NormGradients {
  Tensor dx, dweight, dbias;
};

/// With `fixed` statistics, which do not depend on x, the means in dx are zero.
NormGradients norm_backward(const char* op, const Planes& planes, const Tensor& x, const Tensor& weight,
                            const Tensor& statistics, const Tensor& dy, bool fixed, bool wants_dx, bool wants_factors) {
  return dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    Tensor sums = empty({2, planes.count}, dtype_of<C>(), x.device());
    const T *in = x.data<T>(), *dout = dy.data<T>();
    const C *s = statistics.data<C>(), *scale = weight.data<C>();
    const auto find_sums = [&] {
#if VT_CUDA
      if (x.device().is_cuda()) {
        return launch_rows(plane_norm::gradient_sums_kernel<T>, planes.count, planes, in, dout, s, sums.data<C>());
      }
#endif
      plane_norm::gradient_sums_cpu<T>(planes, in, dout, s, sums.data<C>());
    };
    const auto find_dx = [&](const C* means, T* dx) {
#if VT_CUDA
      if (x.device().is_cuda()) {
        return launch_rows(plane_norm::dx_kernel<T>, planes.count, planes, in, dout, s, scale, means, dx);
      }
#endif
      plane_norm::dx_cpu<T>(planes, in, dout, s, scale, means, dx);
    };

    NormGradients result;
    find_sums();
    if (wants_factors) {
      result.dweight = empty({planes.channels}, dtype_of<C>(), x.device());
      result.dbias = empty({planes.channels}, dtype_of<C>(), x.device());
      plane_norm::for_each(
          x.device(), planes.channels,
          plane_norm::FindFactorGradients<C>{planes, sums.data<C>(), result.dweight.data<C>(), result.dbias.data<C>()});
    }
    if (!wants_dx) return result;
    Tensor means = zeros({2, planes.sets}, dtype_of<C>(), x.device());
    if (!fixed) {
      plane_norm::for_each(x.device(), planes.sets,
                           plane_norm::FindGradientMeans<C>{planes, sums.data<C>(), scale, means.data<C>()});
    }
    result.dx = empty(x.shape(), x.dtype(), x.device());
    find_dx(means.data<C>(), result.dx.data<T>());
    return result;
  });
}

DType factor_dtype(const Tensor& x) { return x.dtype() == DType::f64 ? DType::f64 : DType::f32; }

/// weight or bias as the kernels read it: f32 where x is bf16
Tensor as_factors(const Tensor& parameter, const Tensor& x) {
  return contiguous_data(cast_data(parameter, factor_dtype(x)));
}

/// y with its rule; the statistics are constants to the tape: the formula of dx has their share in
/// it.
Tensor record_norm(const char* op, const Planes& planes, const Tensor& x, const Tensor& weight, const Tensor& bias,
                   const Tensor& statistics, bool fixed) {
  const Tensor y = normalize(op, planes, contiguous_data(x), statistics, as_factors(weight, x), as_factors(bias, x));
  return record(op, y, {x, weight, bias},
                [=, x = Saved(x, op), weight = Saved(weight, op)](const Tensor& dy, BackwardContext& context) {
                  const auto d =
                      norm_backward(op, planes, contiguous_data(*x), as_factors(*weight, *x), statistics,
                                    contiguous_data(dy), fixed, context.wants(0), context.wants(1) || context.wants(2));
                  if (context.wants(0)) context.add(0, d.dx);
                  if (context.wants(1)) context.add(1, cast(d.dweight, weight->dtype()));
                  if (context.wants(2)) context.add(2, cast(d.dbias, weight->dtype()));
                });
}

// ---- Checks ----

void check_images(const char* op, const Tensor& x, double epsilon) {
  VT_CHECK(x.defined() && is_floating(x.dtype()) && x.dim() >= 2,
           "{}: x has shape {} and dtype {}, expected (B, C, ...) of f32, f64 or bf16", op, to_string(x.shape()),
           name_of(x.dtype()));
  VT_CHECK(x.size(0) == 0 || x.numel() > 0, "{}: x has shape {}, expected sizes above 0 but for B", op,
           to_string(x.shape()));
  VT_CHECK(epsilon >= 0, "{}: epsilon is {}, expected at least 0", op, epsilon);
}

void check_factors(const char* op, const char* name, const Tensor& x, const Tensor& factors) {
  VT_CHECK(factors.shape() == Shape{x.size(1)}, "{}: {} has shape {}, expected ({}) = channels of x {}", op, name,
           to_string(factors.shape()), x.size(1), to_string(x.shape()));
  VT_CHECK(factors.dtype() == x.dtype() || (x.dtype() == DType::bf16 && factors.dtype() == DType::f32),
           "{}: x is {} and {} is {}, expected one dtype, or f32 for x of bf16", op, name_of(x.dtype()), name,
           name_of(factors.dtype()));
  check_one_device(op, x, factors);
}

}  // namespace

// ---- batch_norm: a set is a channel. Ioffe and Szegedy 2015 ----

namespace {

void check_batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const RunningStatistics& running,
                      bool training, double momentum, double epsilon) {
  check_images("batch_norm", x, epsilon);
  check_factors("batch_norm", "weight", x, weight);
  check_factors("batch_norm", "bias", x, bias);
  check_operands("batch_norm", weight, bias);
  for (const Tensor& statistic : {running.mean, running.variance}) {
    VT_CHECK(statistic.shape() == Shape{x.size(1)} && statistic.dtype() == factor_dtype(x),
             "batch_norm: running statistics have shape {} and dtype {}, expected ({}) and {} for x {}",
             to_string(statistic.shape()), name_of(statistic.dtype()), x.size(1), name_of(factor_dtype(x)),
             to_string(x.shape()));
    check_one_device("batch_norm", x, statistic);
  }
  VT_CHECK(running.mean.is_contiguous() && running.variance.is_contiguous(),
           "batch_norm: running statistics have strides {} and {}, expected row-major tensors",
           to_string(running.mean.strides()), to_string(running.variance.strides()));
  VT_CHECK(momentum >= 0 && momentum <= 1, "batch_norm: momentum is {}, expected 0 to 1", momentum);
  VT_CHECK(!training || x.size(0) * plane_size(x) > 1,
           "batch_norm: x has shape {}, expected more than one value per channel in training", to_string(x.shape()));
}

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const RunningStatistics& running,
                  bool training, double momentum, double epsilon) {
  check_batch_norm(x, weight, bias, running, training, momentum, epsilon);
  const std::int64_t C = x.size(1);
  const Planes planes{x.size(0) * C, C, plane_size(x), 1, C};
  if (!training) {
    const Tensor mean = clone(running.mean), variance = running.variance.detach();
    if (is_recording_twice()) {
      return (x - per_channel(mean, x)) * per_channel(rsqrt(variance + epsilon), x) * per_channel(weight, x) +
             per_channel(bias, x);
    }
    const Tensor statistics = stack({mean, zeros_like(mean), rsqrt(variance + epsilon)});
    return record_norm("batch_norm", planes, x, weight, bias, statistics, true);
  }
  const Tensor statistics = measure("batch_norm", planes, contiguous_data(x), epsilon, running, momentum);
  if (is_recording_twice()) return batch_norm_composed(x, weight, bias, epsilon);
  return record_norm("batch_norm", planes, x, weight, bias, statistics, false);
}

// ---- group_norm: a set is a group of channels of one image. Wu and He 2018 ----

Tensor group_norm(const Tensor& x, std::int64_t groups, const Tensor& weight, const Tensor& bias, double epsilon) {
  check_images("group_norm", x, epsilon);
  check_factors("group_norm", "weight", x, weight);
  check_factors("group_norm", "bias", x, bias);
  check_operands("group_norm", weight, bias);
  const std::int64_t B = x.size(0), C = x.size(1);
  VT_CHECK(groups >= 1 && C % groups == 0, "group_norm: groups is {}, expected a divisor of the {} channels of x {}",
           groups, C, to_string(x.shape()));
  if (is_recording_twice()) return group_norm_composed(x, groups, weight, bias, epsilon);
  const Planes planes{B * C, C, plane_size(x), C / groups, B * groups};
  const Tensor statistics = measure("group_norm", planes, contiguous_data(x), epsilon);
  return record_norm("group_norm", planes, x, weight, bias, statistics, false);
}

// ---- standardize_weight: a set is a filter, an image with one channel. Qiao et al. 2019 ----

Tensor standardize_weight(const Tensor& weight, double epsilon) {
  check_images("standardize_weight", weight, epsilon);
  const Shape one{1};
  const Tensor filters =
      reshape(weight, {weight.size(0), 1, weight.numel() / std::max<std::int64_t>(1, weight.size(0))});
  const auto factor = [&](double value) { return full(one, value, weight.dtype(), weight.device()); };
  return reshape(group_norm(filters, 1, factor(1), factor(0), epsilon), weight.shape());
}

}  // namespace vitrine
