// Packs: neighbours that a GPU thread loads or stores with one access of 16 bytes, the widest there is.
#pragma once

#include <cstdint>

#include "tensor/host_device.h"

namespace vitrine {

template <class T, int count>
struct alignas(sizeof(T) * count) Pack {
  T values[count];
};

/// Elements of T in 16 bytes.
template <class T>
inline constexpr int pack_width = 16 / static_cast<int>(sizeof(T));

/// True if packs of `bytes` may be read at all of these addresses.
template <class... Pointers>
bool are_aligned(std::size_t bytes, const Pointers*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % bytes == 0) && ...);
}

#if VT_CUDA
/// to = the `count` elements at `from`, converted.
template <int count, class C, class T>
__device__ void load_pack(const T* from, C (&to)[count]) {
  const auto pack = *reinterpret_cast<const Pack<T, count>*>(from);
#pragma unroll
  for (int k = 0; k < count; ++k) to[k] = static_cast<C>(pack.values[k]);
}

/// The `count` elements at `to` = from, converted.
template <int count, class C, class T>
__device__ void store_pack(const C (&from)[count], T* to) {
  Pack<T, count> pack;
#pragma unroll
  for (int k = 0; k < count; ++k) pack.values[k] = static_cast<T>(from[k]);
  *reinterpret_cast<Pack<T, count>*>(to) = pack;
}
#endif

}  // namespace vitrine
