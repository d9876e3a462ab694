// Planes with a shared mean and variance: what batch_norm, group_norm and standardize_weight have in common.
//
// A plane is the (b, c) part of images (B, C, ...): its numbers are neighbours in memory. A set is the planes that share
// statistics: those of a channel (batch_norm), or of a group of channels of one image (group_norm). The kernels below work
// plane by plane; what is left to do over the planes of a set is arithmetic on small tensors.
//
//   y = n weight[c] + bias[c]   with   n = (x - mean) rstd,   rstd = 1 / sqrt(var + epsilon)
//
// As in layer_norm, the mean is kept as `center`, its rounded value, and `rest`, the mean of x - center.
#pragma once

#include <algorithm>

#include "ops/elementwise.h"
#include "ops/lanes.h"
#include "ops/warp.h"

namespace vitrine::plane_norm {

struct Planes {
  std::int64_t count, channels, size;  // planes, B C; C; numbers per plane, H W
  std::int64_t neighbours, sets;       // plane p belongs to set p / neighbours % sets

  VT_HD std::int64_t channel_of(std::int64_t plane) const { return plane % channels; }
  VT_HD std::int64_t set_of(std::int64_t plane) const { return plane / neighbours % sets; }
  std::int64_t planes_per_set() const { return count / sets; }
  std::int64_t numbers_per_set() const { return planes_per_set() * size; }
};

enum Statistic { center, rest, rstd, statistic_count };  // rows of the tensor of statistics, (3, sets)

template <class C>
struct SetStatistics {
  C center, rest, rstd;
  VT_HD C normalize(C x) const { return ((x - center) - rest) * rstd; }
};

template <class C>
VT_HD SetStatistics<C> read_statistics(const C* statistics, const Planes& planes, std::int64_t plane) {
  const std::int64_t set = planes.set_of(plane), sets = planes.sets;
  return {statistics[center * sets + set], statistics[rest * sets + set], statistics[rstd * sets + set]};
}

// ---- CPU ----

/// Calls body(plane) for all planes; a task has about 2^14 numbers.
template <class Body>
void for_each_plane(const Planes& planes, const Body& body) {
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(1, planes.size));
  parallel_for(planes.count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) body(plane);
  });
}

/// sums (2, planes) = the sums of x - center and (x - center)^2 of each plane; center (sets)
template <class T, class C = Compute<T>>
void moments_cpu(const Planes& planes, const T* x, const C* center, C* sums) {
  for_each_plane(planes, [&](std::int64_t plane) {
    const T* in = x + plane * planes.size;
    const C middle = center[planes.set_of(plane)];
    sums[plane] = lane_sum<C>(planes.size, [=](auto i) { return static_cast<C>(in[i]) - middle; });
    sums[planes.count + plane] = lane_sum<C>(planes.size, [=](auto i) {
      const C difference = static_cast<C>(in[i]) - middle;
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
__global__ void moments_kernel(Planes planes, const T* x, const C* center, C* sums) {
  for_each_row_of_grid(planes.count, [&](std::int64_t plane) {
    const T* in = x + plane * planes.size;
    const C middle = center[planes.set_of(plane)];
    const C sum = warp_sum<C>(planes.size, [&](std::int64_t i) { return static_cast<C>(in[i]) - middle; });
    const C sum_of_squares = warp_sum<C>(planes.size, [&](std::int64_t i) {
      const C difference = static_cast<C>(in[i]) - middle;
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
