// The loop of every optimiser: one pass over flat arrays of one length, on the CPU or on CUDA, from one functor.
#pragma once

#include <cstdint>

#include "tensor/device.h"
#include "tensor/launch.h"
#include "tensor/parallel.h"

namespace vitrine {

namespace detail {

inline constexpr std::int64_t update_chunk = 1 << 14;  // elements; a few of these arrays fit in the second-level cache

template <class F, class T, class... State>
void update_range(const F& f, std::int64_t begin, std::int64_t end, T* __restrict target, const T* __restrict source,
                  State* __restrict... state) {
  for (std::int64_t i = begin; i < end; ++i) f(target[i], source[i], state[i]...);
}

#if VT_CUDA
template <class F, class T, class... State>
__global__ void update_kernel(F f, std::int64_t count, T* target, const T* source, State*... state) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    f(target[i], source[i], state[i]...);
  }
}
#endif

}  // namespace detail

/// f(target[i], source[i], state[i]...) for 0 <= i < count. The arrays must not overlap.
template <class F, class T, class... State>
void update_each(Device device, const F& f, std::int64_t count, T* target, const T* source, State*... state) {
#if VT_CUDA
  if (device.is_cuda()) {
    launch(detail::update_kernel<F, T, State...>, grid_for(count, 256), dim3(256), 0, current_stream(), f, count,
           target, source, state...);
    return;
  }
#endif
  (void)device;
  parallel_for(count, detail::update_chunk, [&](std::int64_t begin, std::int64_t end) {
    detail::update_range(f, begin, end, target, source, state...);
  });
}

}  // namespace vitrine
