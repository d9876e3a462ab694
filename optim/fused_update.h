// The loop of every optimiser: one pass over flat arrays of one length, on the CPU or on CUDA, from one functor.
//
// The functor itself lies in memory of the device. So its numbers (learning rate, bias corrections) can be renewed while a
// captured CUDA graph, which holds only the address, is replayed.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "optim/squared_norm.h"
#include "tensor/device/launch.h"
#include "tensor/device/packs.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace vitrine {

namespace detail {

inline constexpr std::int64_t update_chunk = 1 << 14;  // elements; a few of these arrays fit in the second-level cache

template <class F, class T, class... State>
void update_range(F f, std::int64_t begin, std::int64_t end, T* __restrict target, const T* __restrict source,
                  State* __restrict... state) {
  for (std::int64_t i = begin; i < end; ++i) f(target[i], source[i], state[i]...);
}

#if VT_CUDA
/// Reads everything before it writes anything: the compiler cannot know that the arrays do not overlap.
template <class F, class T, int width, class... Packs>
__device__ void update_pack(const F& f, Pack<T, width>* target, const Pack<T, width>* source, Packs*... state) {
  const auto update = [&](Pack<T, width> t, Pack<T, width> s, Packs... packs) {
#pragma unroll
    for (int k = 0; k < width; ++k) f(t.values[k], s.values[k], packs.values[k]...);
    write_pack(target, t);
    (write_pack(state, packs), ...);
  };
  update(read_pack(target), read_pack(source), read_pack(state)...);
}

/// The arrays as packs of `width` elements, one for each thread at a time; the last count % width elements go one by one.
template <int width, class F, class T, class... State>
__global__ void update_kernel(const F* functor, std::int64_t count, T* target, const T* source, State*... state) {
  F f = *functor;
  if (!f.begin()) return;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x, packs = count / width;
  for (std::int64_t i = first; i < packs; i += step) {
    update_pack(f, reinterpret_cast<Pack<T, width>*>(target) + i, reinterpret_cast<const Pack<T, width>*>(source) + i,
                reinterpret_cast<Pack<State, width>*>(state) + i...);
  }
  for (std::int64_t i = packs * width + first; i < count; i += step) f(target[i], source[i], state[i]...);
}
#endif

}  // namespace detail

/// What begin() of every functor does: false where the update is to be left out, else takes over the factor of clipping.
template <class T>
VT_HD bool is_good_gradient(const double* statistics, T& gradient_scale) {
  gradient_scale = static_cast<T>(statistics[gradient_factor]);
  return statistics[updates_left_out] == 0;
}

/// Calls body(TypeTag<T>{}) for the dtype of the arenas, f32 or f64.
template <class Body>
void dispatch_arena(DType dtype, const Body& body) {
  dtype == DType::f64 ? body(TypeTag<double>{}) : body(TypeTag<float>{});
}

/// The functors of all segments as one tensor of bytes on `device`; `place` is used again where it fits.
template <class F>
void store_functors(const std::vector<F>& functors, Device device, Tensor& place) {
  const auto bytes = static_cast<std::int64_t>(functors.size() * sizeof(F));
  Tensor on_cpu = empty({bytes}, DType::u8);
  std::memcpy(on_cpu.raw_data(), functors.data(), static_cast<std::size_t>(bytes));
  if (!place.defined() || place.numel() != bytes) place = empty({bytes}, DType::u8, device);
  copy_into(place, on_cpu);
}

/// f(target[i], source[i], state[i]...) for 0 <= i < count, where f is a copy of *functor whose begin() returned true; where it
/// returns false, nothing is done. The arrays must not overlap.
template <class F, class T, class... State>
void update_each(Device device, const F* functor, std::int64_t count, T* target, const T* source, State*... state) {
#if VT_CUDA
  if (device.is_cuda()) {
    constexpr int block = 256, width = pack_width<T>;
    if (are_aligned(16, target, source, state...)) {
      launch(detail::update_kernel<width, F, T, State...>, grid_for(count, block * width), dim3(block), 0,
             current_stream(), functor, count, target, source, state...);
    } else {
      launch(detail::update_kernel<1, F, T, State...>, grid_for(count, block), dim3(block), 0, current_stream(),
             functor, count, target, source, state...);
    }
    return;
  }
#endif
  (void)device;
  F f = *functor;
  if (!f.begin()) return;
  parallel_for(count, detail::update_chunk, [&](std::int64_t begin, std::int64_t end) {
    detail::update_range(f, begin, end, target, source, state...);
  });
}

}  // namespace vitrine
