// Packs: neighbours that a GPU thread loads or stores with one access of 16 bytes, the widest there
// is.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tensor/device/host_device.h"

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
/// The largest type that one instruction moves and that divides `bytes`. A struct would not do: the
/// compiler takes it apart, and then reads or writes element by element.
template <std::size_t bytes>
using Word = std::conditional_t<
    bytes % 16 == 0, uint4,
    std::conditional_t<bytes % 8 == 0, uint2,
                       std::conditional_t<bytes % 4 == 0, std::uint32_t,
                                          std::conditional_t<bytes % 2 == 0, std::uint16_t, std::uint8_t>>>>;

/// Reads the pack at `from` in as few loads as possible.
template <class P>
__device__ P read_pack(const P* from) {
  constexpr int count = sizeof(P) / sizeof(Word<sizeof(P)>);
  Word<sizeof(P)> words[count];
#pragma unroll
  for (int k = 0; k < count; ++k) words[k] = reinterpret_cast<const Word<sizeof(P)>*>(from)[k];
  P pack;
  std::memcpy(&pack, words, sizeof(P));
  return pack;
}

/// *to = pack, in as few stores to device memory as possible. The stores are explicit because the
/// compiler splits a plain assignment when it computes the elements one after the other.
template <class P>
__device__ void write_pack(P* to, const P& pack) {
  constexpr int count = sizeof(P) / sizeof(Word<sizeof(P)>);
  Word<sizeof(P)> words[count];
  std::memcpy(words, &pack, sizeof(P));
#pragma unroll
  for (int k = 0; k < count; ++k) __stwb(reinterpret_cast<Word<sizeof(P)>*>(to) + k, words[k]);
}

/// to = the `count` elements at `from`, converted.
template <int count, class C, class T>
__device__ void load_pack(const T* from, C (&to)[count]) {
  const auto pack = read_pack(reinterpret_cast<const Pack<T, count>*>(from));
#pragma unroll
  for (int k = 0; k < count; ++k) to[k] = static_cast<C>(pack.values[k]);
}

/// The `count` elements at `to` = from, converted.
template <int count, class C, class T>
__device__ void store_pack(const C (&from)[count], T* to) {
  Pack<T, count> pack;
#pragma unroll
  for (int k = 0; k < count; ++k) pack.values[k] = static_cast<T>(from[k]);
  write_pack(reinterpret_cast<Pack<T, count>*>(to), pack);
}
#endif

}  // namespace vitrine
