// Planes with a shared mean and variance: what batch_norm, group_norm and standardize_weight have
// in common.
//
// A plane is the (b, c) part of images (B, C, ...): its elements are neighbours in memory. A set is
// the planes that share statistics: those of a channel (batch_norm), or of a group of channels of
// one image (group_norm). The kernels below work plane by plane, and what is left is done set by
// set.
//
//   y = n weight[c] + bias[c]   with   n = (x - mean) rstd,   rstd = 1 / sqrt(var + epsilon)
//
// As in layer_norm, the mean is kept in two parts: `mean`, as it was rounded, and `mean_error`, the
// mean of x - mean.
#pragma once

#include <algorithm>
#include <cmath>

#include "ops/drivers/elementwise.h"
#include "ops/drivers/lanes.h"
#include "ops/drivers/warp.h"
#include "ops/norm/norm_statistics.h"

namespace vitrine::plane_norm {

/// batch_norm: neighbours = 1, sets = C. group_norm: neighbours = C / groups, sets = B groups.
struct Planes {
  std::int64_t count, channels, size;  // planes, B C; C; elements per plane, H W
  std::int64_t neighbours, sets;       // plane p belongs to set p / neighbours % sets

  VT_HD std::int64_t channel_of(std::int64_t plane) const { return plane % channels; }
  VT_HD std::int64_t set_of(std::int64_t plane) const { return plane / neighbours % sets; }
  /// Plane `i` of a set, 0 <= i < planes_per_set().
  VT_HD std::int64_t plane_of(std::int64_t set, std::int64_t i) const {
    return (i / neighbours * sets + set) * neighbours + i % neighbours;
  }
  VT_HD std::int64_t planes_per_set() const { return count / sets; }
  VT_HD std::int64_t elements_per_set() const { return planes_per_set() * size; }
};

// What is kept of a set is what layer_norm keeps of a row: (3, sets).
using namespace norm_statistics;

template <class C>
VT_HD RowStatistics<C> read_statistics(const C* statistics, const Planes& planes, std::int64_t plane) {
  return norm_statistics::read_statistics(statistics, planes.set_of(plane), planes.sets);
}

// ---- Per set or channel, on both devices: sums over its planes, in their order ----

/// The mean of each set, rounded, from the sums of x.
template <class C>
struct FindMean {
  Planes planes;
  const C* sums;  // (2, planes)
  C* statistics;

  VT_HD void operator()(std::int64_t set) const {
    C total = 0;
    for (std::int64_t i = 0; i < planes.planes_per_set(); ++i) total += sums[planes.plane_of(set, i)];
    statistics[mean_part * planes.sets + set] = total / static_cast<C>(planes.elements_per_set());
  }
};

/// The other statistics, from the sums of x - mean and (x - mean)^2. Where there are running
/// statistics: running = (1 - momentum) running + momentum (mean, unbiased variance).
template <class C>
struct FindVariance {
  Planes planes;
  const C* sums;  // (2, planes)
  C* statistics;
  C epsilon, momentum;
  C *running_mean, *running_variance;  // (sets), or null

  VT_HD void operator()(std::int64_t set) const {
    C total = 0, total_of_squares = 0;
    for (std::int64_t i = 0; i < planes.planes_per_set(); ++i) {
      total += sums[planes.plane_of(set, i)];
      total_of_squares += sums[planes.count + planes.plane_of(set, i)];
    }
    const C count = static_cast<C>(planes.elements_per_set()), mean_error = total / count;
    C variance = total_of_squares / count - mean_error * mean_error;
    if (variance < 0) variance = 0;  // by rounding; NaN stays
    statistics[mean_error_part * planes.sets + set] = mean_error;
    statistics[rstd_part * planes.sets + set] = 1 / std::sqrt(variance + epsilon);
    if (!running_mean) return;
    const C mean = statistics[mean_part * planes.sets + set] + mean_error, unbiased = variance * (count / (count - 1));
    running_mean[set] = (1 - momentum) * running_mean[set] + momentum * mean;
    running_variance[set] = (1 - momentum) * running_variance[set] + momentum * unbiased;
  }
};

/// means (2, sets) = the means of g = dy weight and of g n over each set, from the sums of dy and
/// dy n of its planes
template <class C>
struct FindGradientMeans {
  Planes planes;
  const C *sums, *weight;
  C* means;

  VT_HD void operator()(std::int64_t set) const {
    C g = 0, gn = 0;
    for (std::int64_t i = 0; i < planes.planes_per_set(); ++i) {
      const std::int64_t plane = planes.plane_of(set, i);
      g += sums[plane] * weight[planes.channel_of(plane)];
      gn += sums[planes.count + plane] * weight[planes.channel_of(plane)];
    }
    means[set] = g / static_cast<C>(planes.elements_per_set());
    means[planes.sets + set] = gn / static_cast<C>(planes.elements_per_set());
  }
};

/// dbias = sum(dy), dweight = sum(dy n) of each channel
template <class C>
struct FindFactorGradients {
  Planes planes;
  const C* sums;
  C *dweight, *dbias;

  VT_HD void operator()(std::int64_t channel) const {
    C dy = 0, dyn = 0;
    for (std::int64_t plane = channel; plane < planes.count; plane += planes.channels) {
      dy += sums[plane];
      dyn += sums[planes.count + plane];
    }
    dbias[channel] = dy;
    dweight[channel] = dyn;
  }
};

#if VT_CUDA
template <class Function>
__global__ void each_kernel(Function function, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    function(i);
  }
}
#endif

/// Calls function(i) for all i below count, on `device`.
template <class Function>
void for_each([[maybe_unused]] Device device, std::int64_t count, const Function& function) {
  if (count == 0) return;
#if VT_CUDA
  if (device.is_cuda()) {
    return launch(each_kernel<Function>, grid_for(count, 32), dim3(32), 0, current_stream(), function, count);
  }
#endif
  parallel_for(count, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) function(i);
  });
}

// ---- CPU ----

/// Calls body(plane) for all planes; a task has about 2^14 elements.
template <class Body>
void for_each_plane(const Planes& planes, const Body& body) {
  const std::int64_t grain = std::max<std::int64_t>(1, elements_per_chunk / std::max<std::int64_t>(1, planes.size));
  parallel_for(planes.count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) body(plane);
  });
}

/// sums (2, planes) = the sums of x - mean and (x - mean)^2 of each plane; means (sets), or null
/// for 0
template <class T, class C = Compute<T>>
void moments_cpu(const Planes& planes, const T* x, const C* means, C* sums) {
  for_each_plane(planes, [&](std::int64_t plane) {
    const T* in = x + plane * planes.size;
    const C mean = means ? means[planes.set_of(plane)] : C(0);
    sums[plane] = lane_sum<C>(planes.size, [=](auto i) { return static_cast<C>(in[i]) - mean; });
    sums[planes.count + plane] = lane_sum<C>(planes.size, [=](auto i) {
      const C difference = static_cast<C>(in[i]) - mean;
      return difference * difference;
    });
  });
}

template <class T, class C = Compute<T>>
void normalize_cpu(const Planes& planes, const T* x, const C* statistics, const C* weight, const C* bias, T* y) {
  for_each_plane(planes, [&](std::int64_t plane) {
    const auto s = read_statistics(statistics, planes, plane);
    const C scale = weight[planes.channel_of(plane)], shift = bias[planes.channel_of(plane)];
    const T* __restrict in = x + plane * planes.size;
    T* __restrict out = y + plane * planes.size;
    for (std::int64_t i = 0; i < planes.size; ++i) {
      out[i] = static_cast<T>(s.normalize(static_cast<C>(in[i])) * scale + shift);
    }
  });
}

/// sums (2, planes) = the sums of dy and dy n of each plane
template <class T, class C = Compute<T>>
void gradient_sums_cpu(const Planes& planes, const T* x, const T* dy, const C* statistics, C* sums) {
  for_each_plane(planes, [&](std::int64_t plane) {
    const auto s = read_statistics(statistics, planes, plane);
    const T *in = x + plane * planes.size, *dout = dy + plane * planes.size;
    sums[plane] = lane_sum<C>(planes.size, [=](auto i) { return static_cast<C>(dout[i]); });
    sums[planes.count + plane] =
        lane_sum<C>(planes.size, [=](auto i) { return static_cast<C>(dout[i]) * s.normalize(static_cast<C>(in[i])); });
  });
}

/// dx = rstd (g - mean(g) - n mean(g n)) with g = dy weight; means (2, sets)
template <class T, class C = Compute<T>>
void dx_cpu(const Planes& planes, const T* x, const T* dy, const C* statistics, const C* weight, const C* means,
            T* dx) {
  for_each_plane(planes, [&](std::int64_t plane) {
    const auto s = read_statistics(statistics, planes, plane);
    const C scale = weight[planes.channel_of(plane)], mean_g = means[planes.set_of(plane)];
    const C mean_gn = means[planes.sets + planes.set_of(plane)];
    const T* __restrict in = x + plane * planes.size, * __restrict dout = dy + plane * planes.size;
    T* __restrict din = dx + plane * planes.size;
    for (std::int64_t i = 0; i < planes.size; ++i) {
      const C g = static_cast<C>(dout[i]) * scale, n = s.normalize(static_cast<C>(in[i]));
      din[i] = static_cast<T>(s.rstd * (g - mean_g - n * mean_gn));
    }
  });
}

// ---- CUDA: one warp per plane ----

#if VT_CUDA
template <class T, class C = Compute<T>>
__global__ void moments_kernel(Planes planes, const T* x, const C* means, C* sums) {
  for_each_row_of_grid(planes.count, [&](std::int64_t plane) {
    const T* in = x + plane * planes.size;
    const C mean = means ? means[planes.set_of(plane)] : C(0);
    const C sum = warp_sum<C>(planes.size, [&](std::int64_t i) { return static_cast<C>(in[i]) - mean; });
    const C sum_of_squares = warp_sum<C>(planes.size, [&](std::int64_t i) {
      const C difference = static_cast<C>(in[i]) - mean;
      return difference * difference;
    });
    if (threadIdx.x != 0) return;
    sums[plane] = sum;
    sums[planes.count + plane] = sum_of_squares;
  });
}

template <class T, class C = Compute<T>>
__global__ void normalize_kernel(Planes planes, const T* x, const C* statistics, const C* weight, const C* bias, T* y) {
  for_each_row_of_grid(planes.count, [&](std::int64_t plane) {
    const auto s = read_statistics(statistics, planes, plane);
    const C scale = weight[planes.channel_of(plane)], shift = bias[planes.channel_of(plane)];
    const T* in = x + plane * planes.size;
    T* out = y + plane * planes.size;
    warp_for(planes.size,
             [&](std::int64_t i) { out[i] = static_cast<T>(s.normalize(static_cast<C>(in[i])) * scale + shift); });
  });
}

template <class T, class C = Compute<T>>
__global__ void gradient_sums_kernel(Planes planes, const T* x, const T* dy, const C* statistics, C* sums) {
  for_each_row_of_grid(planes.count, [&](std::int64_t plane) {
    const auto s = read_statistics(statistics, planes, plane);
    const T *in = x + plane * planes.size, *dout = dy + plane * planes.size;
    const C sum = warp_sum<C>(planes.size, [&](std::int64_t i) { return static_cast<C>(dout[i]); });
    const C sum_of_products = warp_sum<C>(
        planes.size, [&](std::int64_t i) { return static_cast<C>(dout[i]) * s.normalize(static_cast<C>(in[i])); });
    if (threadIdx.x != 0) return;
    sums[plane] = sum;
    sums[planes.count + plane] = sum_of_products;
  });
}

template <class T, class C = Compute<T>>
__global__ void dx_kernel(Planes planes, const T* x, const T* dy, const C* statistics, const C* weight, const C* means,
                          T* dx) {
  for_each_row_of_grid(planes.count, [&](std::int64_t plane) {
    const auto s = read_statistics(statistics, planes, plane);
    const C scale = weight[planes.channel_of(plane)], mean_g = means[planes.set_of(plane)];
    const C mean_gn = means[planes.sets + planes.set_of(plane)];
    const T *in = x + plane * planes.size, *dout = dy + plane * planes.size;
    T* din = dx + plane * planes.size;
    warp_for(planes.size, [&](std::int64_t i) {
      const C g = static_cast<C>(dout[i]) * scale, n = s.normalize(static_cast<C>(in[i]));
      din[i] = static_cast<T>(s.rstd * (g - mean_g - n * mean_gn));
    });
  });
}
#endif

}  // namespace vitrine::plane_norm
