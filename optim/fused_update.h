// The loop of every optimiser: one pass over flat arrays of one length, on the CPU or on CUDA, from
// one functor.
//
// The functor itself lies in memory of the device. So its factors (learning rate, bias corrections)
// can be renewed while a captured CUDA graph, which holds only the address, is replayed.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "optim/arena/squared_norm.h"
#include "optim/fused_optimizer.h"
#include "tensor/device/launch.h"
#include "tensor/device/packs.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace vitrine {

/// False where the update is to be skipped, since a gradient was not finite; else `coefficient` is
/// what clipping multiplies the gradient with. `statistics`: see squared_norm.h.
template <class T>
VT_HD bool load_clip_coefficient(const double* statistics, T& coefficient) {
  coefficient = static_cast<T>(statistics[clip_coefficient]);
  return statistics[skipped_steps] == 0;
}

namespace detail {

inline constexpr std::int64_t update_chunk = 1 << 14;  // elements; a few of these arrays fit in the second-level cache

template <class F, class T, class... State>
void update_range(F f, T coefficient, std::int64_t begin, std::int64_t end, T* __restrict target,
                  const T* __restrict gradient, State* __restrict... state) {
  for (std::int64_t i = begin; i < end; ++i) f(target[i], gradient[i] * coefficient, state[i]...);
}

#if VT_CUDA
/// Reads everything before it writes anything: the compiler cannot know that the arrays do not
/// overlap.
template <class F, class T, int width, class... Packs>
__device__ void update_pack(const F& f, T coefficient, Pack<T, width>* target, const Pack<T, width>* gradient,
                            Packs*... state) {
  const auto update = [&](Pack<T, width> t, Pack<T, width> g, Packs... packs) {
#pragma unroll
    for (int k = 0; k < width; ++k) f(t.values[k], g.values[k] * coefficient, packs.values[k]...);
    write_pack(target, t);
    (write_pack(state, packs), ...);
  };
  update(read_pack(target), read_pack(gradient), read_pack(state)...);
}

/// The arrays as packs of `width` elements, one for each thread at a time; the last count % width
/// elements go one by one.
template <int width, class F, class T, class... State>
__global__ void update_kernel(const F* functor, const double* statistics, std::int64_t count, T* target,
                              const T* gradient, State*... state) {
  const F f = *functor;
  T coefficient;
  if (!load_clip_coefficient(statistics, coefficient)) return;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x, packs = count / width;
  for (std::int64_t i = first; i < packs; i += step) {
    update_pack(f, coefficient, reinterpret_cast<Pack<T, width>*>(target) + i,
                reinterpret_cast<const Pack<T, width>*>(gradient) + i,
                reinterpret_cast<Pack<State, width>*>(state) + i...);
  }
  for (std::int64_t i = packs * width + first; i < count; i += step) {
    f(target[i], gradient[i] * coefficient, state[i]...);
  }
}
#endif

}  // namespace detail

/// Calls body(TypeTag<T>{}) for the dtype of the arenas, f32 or f64.
template <class Body>
void dispatch_arena(DType dtype, const Body& body) {
  dtype == DType::f64 ? body(TypeTag<double>{}) : body(TypeTag<float>{});
}

/// The functors of all segments as one tensor of bytes on `device`; `stored` is used again where it
/// fits.
template <class F>
void store_functors(const std::vector<F>& functors, Device device, Tensor& stored) {
  if (functors.empty()) return;
  const auto bytes = static_cast<std::int64_t>(functors.size() * sizeof(F));
  Tensor on_cpu = empty({bytes}, DType::u8);
  std::memcpy(on_cpu.raw_data(), functors.data(), static_cast<std::size_t>(bytes));
  if (!stored.defined() || stored.numel() != bytes) stored = empty({bytes}, DType::u8, device);
  copy_into(stored, on_cpu);
}

/// f(target[i], clipped gradient[i], state[i]...) for 0 <= i < count with f = *functor, unless the
/// statistics say that the update is to be skipped. The arrays must not overlap.
template <class F, class T, class... State>
void update_each(Device device, const F* functor, const double* statistics, std::int64_t count, T* target,
                 const T* gradient, State*... state) {
#if VT_CUDA
  if (device.is_cuda()) {
    constexpr int block = 256, width = pack_width<T>;
    if (are_aligned(16, target, gradient, state...)) {
      launch(detail::update_kernel<width, F, T, State...>, grid_for(count, block * width), dim3(block), 0,
             current_stream(), functor, statistics, count, target, gradient, state...);
    } else {
      launch(detail::update_kernel<1, F, T, State...>, grid_for(count, block), dim3(block), 0, current_stream(),
             functor, statistics, count, target, gradient, state...);
    }
    return;
  }
#endif
  (void)device;
  T coefficient;
  if (!load_clip_coefficient(statistics, coefficient)) return;
  parallel_for(count, detail::update_chunk, [&](std::int64_t begin, std::int64_t end) {
    detail::update_range(*functor, coefficient, begin, end, target, gradient, state...);
  });
}

// ---- FusedUpdate: one functor for each segment ----

template <class Options, template <class> class Update>
std::vector<MomentSpec> FusedUpdate<Options, Update>::moments() {
  std::vector<MomentSpec> specs;
  for (const char* name : Update<float>::moments) specs.push_back({.name = name});
  return specs;
}

template <class Options, template <class> class Update>
void FusedUpdate<Options, Update>::prepare(const Options& options, const std::vector<ArenaSegment>& segments,
                                           std::int64_t step, const Arenas& arenas) {
  dispatch_arena(arenas.parameters.dtype(), [&]<class T>(TypeTag<T>) {
    std::vector<Update<T>> functors;
    for (const ArenaSegment& s : segments) functors.push_back(Update<T>::at(options, s, step));
    store_functors(functors, arenas.parameters.device(), functors_);
  });
}

template <class Options, template <class> class Update>
void FusedUpdate<Options, Update>::operator()(const std::vector<ArenaSegment>& segments, Arenas& arenas) const {
  if (segments.empty()) return;
  dispatch_arena(arenas.parameters.dtype(), [&]<class T>(TypeTag<T>) {
    const auto* functor = static_cast<const Update<T>*>(functors_.raw_data());
    const auto update_segment = [&]<std::size_t... i>(const ArenaSegment& s, std::index_sequence<i...>) {
      update_each(arenas.parameters.device(), functor++, std::as_const(arenas.statistics).data<double>(),
                  s.end - s.begin, arenas.parameters.data<T>() + s.begin,
                  std::as_const(arenas.gradients).data<T>() + s.begin, arenas.moments[i].template at<T>(s.begin)...);
    };
    for (const ArenaSegment& s : segments) {
      update_segment(s, std::make_index_sequence<Update<T>::moments.size()>());
    }
  });
}

}  // namespace vitrine
