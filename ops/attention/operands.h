// What the kernels of attention take, on both devices: strided views of the operands, what forward saved, the
// gradients.
#pragma once

#include <cstdint>

#include "tensor/device/host_device.h"
#include "tensor/dtype.h"

namespace vitrine {

inline constexpr int largest_head_on_cuda = 256;  // numbers in a row of q

/// (B, H, rows, D) with dense D: where a batch, a head and a row start, in elements.
template <class T>
struct Heads {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0;
  VT_HD T* at(std::int64_t b, std::int64_t h, std::int64_t r = 0) const {
    return data + b * batch + h * head + r * row;
  }
};

/// The additive bias, (G, H, N, M) with stride 0 where it is broadcast. Sample b of the batch takes matrix b mod G: G is 1 for
/// one bias for all, B for one each, and the number of windows in an image where windows are the samples.
template <class T>
struct Bias {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0, column = 0, groups = 1;
  VT_HD T* at(std::int64_t b, std::int64_t h, std::int64_t r) const {
    return data + b % groups * batch + h * head + r * row;
  }
};

/// The samples that one share of dbias adds up: those of group g, b = g, g + G, ..., cut into `parts` parts.
struct BiasShare {
  std::int64_t group, part, begin, end;  // repetitions i, where b = group + i G
  VT_HD BiasShare(std::int64_t share, std::int64_t B, std::int64_t groups, std::int64_t parts)
      : group(share % groups),
        part(share / groups),
        begin(part * (B / groups) / parts),
        end((part + 1) * (B / groups) / parts) {}
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
  Bias<Compute<T>> dbias;  // data is nullptr where no gradient is wanted; zero before the first addition
};

/// What backward reads beside the inputs.
template <class T>
struct AttentionSaved {
  Heads<const T> y, dy;
  const Compute<T>* logsumexp;  // (B, H, N)
};

}  // namespace vitrine
