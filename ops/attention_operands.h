// What the kernels of attention take, on both devices: strided views of the operands, what forward saved, the
// gradients.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/host_device.h"

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

/// The additive bias, (B, H, N, M) with stride 0 where it is broadcast.
template <class T>
struct Bias {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0, column = 0;
  VT_HD T* at(std::int64_t b, std::int64_t h, std::int64_t r) const { return data + b * batch + h * head + r * row; }
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
