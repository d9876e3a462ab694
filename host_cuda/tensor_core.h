// The functions of ops/drivers/tensor_core.h on the CPU, from the layouts that the PTX ISA
// documents. Included by that header alone.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "host_cuda/block.h"

namespace vitrine {
namespace tensor_core_emulation {

inline float half_of(std::uint32_t pair, int which) {
  return std::bit_cast<float>(which == 0 ? pair << 16 : pair & 0xFFFF0000u);
}

/// Entry (row, column) of an A that is spread over the lanes.
template <class Operands>
float entry_of_a(const std::array<Operands, 32>& lanes, int row, int column) {
  const auto lane = static_cast<std::size_t>(row % 8 * 4 + column % 8 / 2);
  return half_of(lanes[lane].a.x[row / 8 + column / 8 * 2], column % 2);
}

template <class Operands>
float entry_of_b(const std::array<Operands, 32>& lanes, int row, int column) {
  const auto lane = static_cast<std::size_t>(column * 4 + row % 8 / 2);
  return half_of(lanes[lane].b.x[row / 8], row % 2);
}

inline void require_aligned(const char* operation, const void* address) {
  if (reinterpret_cast<std::uintptr_t>(address) % 16 != 0) {
    throw host_cuda::KernelError(std::string(operation) + ": an address is not aligned to 16 bytes");
  }
}

/// Entry (row, column) of the matrix-th of the four matrices, whose rows the lanes point to.
inline std::uint32_t entry_of_rows(const std::array<const bfloat16*, 32>& rows, int matrix, int row, int column) {
  return rows[static_cast<std::size_t>(8 * matrix + row)][column].bits;
}

inline std::array<const bfloat16*, 32> exchange_rows(const char* operation, const bfloat16* row) {
  require_aligned(operation, row);
  return host_cuda::exchange(operation, 0xFFFFFFFFu, row);
}

/// A copy that a thread has started. It takes place only when the thread waits, as late as a GPU
/// may do it.
struct Copy {
  void* target;
  const void* source;
  bool exists;
};
inline std::vector<Copy>& copies_of_this_thread() {
  static std::vector<Copy> copies[1024];
  return copies[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)];
}

}  // namespace tensor_core_emulation

inline void mma_m16n8k16(FragmentC& d, const FragmentA& a, const FragmentB& b) {
  struct Operands {
    FragmentA a;
    FragmentB b;
  };
  const auto lanes = host_cuda::exchange("mma", 0xFFFFFFFFu, Operands{a, b});
  const int g = host_cuda::lane() / 4, t = host_cuda::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    float sum = d.x[i];
    for (int k = 0; k < 16; ++k) {
      sum += tensor_core_emulation::entry_of_a(lanes, g + i / 2 * 8, k) *
             tensor_core_emulation::entry_of_b(lanes, k, 2 * t + i % 2);
    }
    d.x[i] = sum;
  }
}

inline void ldmatrix_x4(std::uint32_t (&x)[4], const bfloat16* row) {
  const auto rows = tensor_core_emulation::exchange_rows("ldmatrix", row);
  const int g = host_cuda::lane() / 4, t = host_cuda::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    x[i] = tensor_core_emulation::entry_of_rows(rows, i, g, 2 * t) |
           tensor_core_emulation::entry_of_rows(rows, i, g, 2 * t + 1) << 16;
  }
}

inline void ldmatrix_x4_trans(std::uint32_t (&x)[4], const bfloat16* row) {
  const auto rows = tensor_core_emulation::exchange_rows("ldmatrix.trans", row);
  const int g = host_cuda::lane() / 4, t = host_cuda::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    x[i] = tensor_core_emulation::entry_of_rows(rows, i, 2 * t, g) |
           tensor_core_emulation::entry_of_rows(rows, i, 2 * t + 1, g) << 16;
  }
}

inline void cp_async_16(void* target, const void* source, bool exists) {
  tensor_core_emulation::require_aligned("cp.async", target);
  if (exists) tensor_core_emulation::require_aligned("cp.async", source);
  tensor_core_emulation::copies_of_this_thread().push_back({target, source, exists});
}

inline void cp_async_wait() {
  auto& copies = tensor_core_emulation::copies_of_this_thread();
  for (const auto& copy : copies) {
    if (copy.exists) {
      std::memcpy(copy.target, copy.source, 16);
    } else {
      std::memset(copy.target, 0, 16);
    }
  }
  copies.clear();
}

inline std::uint32_t pack_bf16(float low, float high) {
  return bfloat16(low).bits | static_cast<std::uint32_t>(bfloat16(high).bits) << 16;
}

inline float exp2_approx(float x) { return std::exp2(x); }
inline float reciprocal_approx(float x) { return 1 / x; }

}  // namespace vitrine
