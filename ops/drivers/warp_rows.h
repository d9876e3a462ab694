// A row read and written by one warp: 16 bytes with each instruction where the row is whole packs,
// else element by element. Rows of K elements that follow each other are whole packs where the
// first is aligned and K is a multiple of the pack.
#pragma once

#include "ops/drivers/warp.h"
#include "tensor/device/packs.h"
#include "tensor/dtype.h"

#if VT_CUDA
namespace vitrine {

/// Calls body(i, packs) for the packs of `width` elements from i on of the rows, each in one lane.
template <int width, class Body, class T, class... Rest>
__device__ void warp_for_packs(std::int64_t count, const Body& body, const T* x, const Rest*... rest) {
  for (std::int64_t i = threadIdx.x * width; i < count; i += warp_threads * width) {
    body(i, read_pack(reinterpret_cast<const Pack<T, width>*>(x + i)),
         read_pack(reinterpret_cast<const Pack<Rest, width>*>(rest + i))...);
  }
}

template <class T, class... Rows>
__device__ bool are_whole_packs(std::int64_t count, const T* x, const Rows*... rows) {
  const auto address = [](const void* row) { return reinterpret_cast<std::uintptr_t>(row); };
  return count % pack_width<T> == 0 && (address(x) | ... | address(rows)) % 16 == 0;
}

/// Calls body(i, x[i], ...) for all i below `count`, each in one lane.
template <class Body, class T, class... Rest>
__device__ void warp_for_each(std::int64_t count, const Body& body, const T* x, const Rest*... rest) {
  const auto visit = [&]<int width>(std::int64_t i, const Pack<T, width>& first, const Pack<Rest, width>&... others) {
#pragma unroll
    for (int k = 0; k < width; ++k) {
      body(i + k, static_cast<Compute<T>>(first.values[k]), static_cast<Compute<Rest>>(others.values[k])...);
    }
  };
  if (are_whole_packs(count, x, rest...)) {
    warp_for_packs<pack_width<T>>(count, visit, x, rest...);
  } else {
    warp_for_packs<1>(count, visit, x, rest...);
  }
}

/// The sum of term(x[i], ...) over all i below `count`; every lane gets it.
template <class Term, class T, class... Rest, class C = Compute<T>>
__device__ C warp_sum_of(std::int64_t count, const Term& term, const T* x, const Rest*... rest) {
  C total = 0;
  warp_for_each(
      count, [&](std::int64_t, auto... values) { total += term(values...); }, x, rest...);
  return warp_reduce(total, [](C a, C b) { return a + b; });
}

/// y[i] = f(i, x[i], ...) for all i below `count`.
template <class F, class T, class... Rest>
__device__ void warp_map(std::int64_t count, T* y, const F& f, const T* x, const Rest*... rest) {
  const auto write = [&]<int width>(std::int64_t i, const Pack<T, width>& first, const Pack<Rest, width>&... others) {
    Pack<T, width> pack;
#pragma unroll
    for (int k = 0; k < width; ++k) {
      pack.values[k] = static_cast<T>(
          f(i + k, static_cast<Compute<T>>(first.values[k]), static_cast<Compute<Rest>>(others.values[k])...));
    }
    write_pack(reinterpret_cast<Pack<T, width>*>(y + i), pack);
  };
  if (are_whole_packs(count, y, x, rest...)) {
    warp_for_packs<pack_width<T>>(count, write, x, rest...);
  } else {
    warp_for_packs<1>(count, write, x, rest...);
  }
}

}  // namespace vitrine
#endif
