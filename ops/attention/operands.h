// What the kernels of attention take, on both devices: strided views of the operands, of what
// forward saved and of the gradients.
#pragma once

#include <cstdint>

#include "tensor/device/host_device.h"
#include "tensor/dtype.h"

namespace vitrine {

inline constexpr int largest_head_on_cuda = 256;  // largest D

/// (B, H, rows, D) with dense D: the strides of batch, head and row, in elements.
template <class T>
struct Heads {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0;
  VT_HD T* at(std::int64_t b, std::int64_t h, std::int64_t r = 0) const {
    return data + b * batch + h * head + r * row;
  }
};

/// The additive bias, (G, H, N, M) with stride 0 where it is broadcast. Sample b of the batch takes
/// matrix b mod G: G is 1 for one bias for all samples, B for one per sample, and the number of
/// windows in an image where windows are the samples.
template <class T>
struct Bias {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0, column = 0, groups = 1;
  VT_HD T* at(std::int64_t b, std::int64_t h, std::int64_t r) const {
    return data + b % groups * batch + h * head + r * row;
  }
};

/// The gradient of the bias as `parts` partial sums, `part_size` elements apart, each shaped like
/// the bias. The samples b = g, g + G, ... that share matrix g are cut into `parts` slices, and
/// each slice has a partial sum of its own, so that several threads or blocks can add up one bias
/// without waiting for each other.
template <class T>
struct BiasPartials : Bias<T> {
  std::int64_t parts = 1, part_size = 0;

  VT_HD Bias<T> part(std::int64_t index) const {
    Bias<T> sums = *this;
    sums.data += index * part_size;
    return sums;
  }
};

/// The samples b = group + i G, i from `begin` to `end`, whose score gradients one partial sum adds
/// up.
struct BatchSlice {
  std::int64_t group, part, begin, end, groups;
  /// Slices are numbered group by group within each part: `index` runs from 0 to group_count x
  /// part_count.
  VT_HD BatchSlice(std::int64_t index, std::int64_t B, std::int64_t group_count, std::int64_t part_count)
      : group(index % group_count),
        part(index / group_count),
        begin(part * (B / group_count) / part_count),
        end((part + 1) * (B / group_count) / part_count),
        groups(group_count) {}
  VT_HD std::int64_t sample(std::int64_t i) const { return group + i * groups; }
};

template <class T>
struct AttentionInputs {
  std::int64_t B, H, N, M, D;  // N queries, M keys
  Compute<T> scale;
  Heads<const T> q, k, v;
  Bias<const T> bias;  // data is nullptr without a bias
};

template <class T>
struct AttentionGradients {
  Heads<T> dq, dk, dv;
  BiasPartials<Compute<T>> dbias;  // data is nullptr where no gradient is wanted; all parts are 0 at the start
};

/// What backward reads beside the inputs.
template <class T>
struct AttentionSaved {
  Heads<const T> y, dy;
  const Compute<T>* logsumexp;  // (B, H, N)
};

}  // namespace vitrine
