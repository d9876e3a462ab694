// One block of threads, played on the CPU: every CUDA thread is a fibre, and barriers and warp
// operations are points at which fibres wait for each other. What a kernel can name (threadIdx,
// __syncthreads, ...) is in cuda_runtime.h.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <type_traits>

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// The variables of the thread that runs now. One kernel runs at a time, so plain globals do, and a
// debugger finds them: `break layer_norm.cu:201 if threadIdx.x == 3 && blockIdx.x == 0`.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace host_cuda {

/// An error of a kernel that is undefined behaviour on a GPU: a deadlock, lanes of a warp that meet
/// in different operations, a shuffle from a lane that takes no part.
struct KernelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Runs body() once for every thread of every block: blocks one after the other, the threads of a
/// block as fibres that change over at barriers and warp operations. `shared_bytes` of dynamic
/// shared memory are filled with NaN for each block. Throws KernelError, and whatever body throws.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body);

/// 0 runs blocks and threads in order. Any other seed shuffles the order of blocks, and of threads
/// between two barriers: a result that moves with the seed betrays a missing barrier. The variable
/// HOST_CUDA_SEED sets it for a whole program.
void set_seed(std::uint64_t seed);

/// The block's dynamic shared memory. Exactly as long as the launch asked for, so that ASan sees
/// the byte after it.
void* dynamic_shared_memory();

/// __syncthreads(): waits until every thread of the block that has not returned is here.
void block_barrier();

inline constexpr std::size_t slot_bytes = 64;

/// The operands that the lanes of a warp bring to one operation.
struct Meeting {
  unsigned participants = 0;  // bit l: lane l took part
  alignas(16) std::byte slots[32][slot_bytes];
};

/// Waits until all lanes in `mask` that have not returned are here with the same operation; each
/// brings `bytes` bytes. The result holds until this lane's next meeting.
const Meeting& meet(const char* operation, unsigned mask, const void* mine, std::size_t bytes);

/// The operands of every lane of `mask`: the one primitive that all warp operations, mma and
/// ldmatrix included, are made of.
template <class T>
std::array<T, 32> exchange(const char* operation, unsigned mask, const T& mine) {
  static_assert(sizeof(T) <= slot_bytes && std::is_trivially_copyable_v<T>);
  const Meeting& meeting = meet(operation, mask, &mine, sizeof(T));
  std::array<T, 32> all{};
  for (std::size_t lane = 0; lane < 32; ++lane) std::memcpy(&all[lane], meeting.slots[lane], sizeof(T));
  return all;
}

/// The value that lane `source` brought; an error if it took no part.
template <class T>
T exchange_with(const char* operation, unsigned mask, const T& mine, int source) {
  static_assert(sizeof(T) <= slot_bytes && std::is_trivially_copyable_v<T>);
  const Meeting& meeting = meet(operation, mask, &mine, sizeof(T));
  if ((meeting.participants >> source & 1) == 0) {
    throw KernelError(std::string(operation) + " reads lane " + std::to_string(source) + ", which takes no part");
  }
  T value;
  std::memcpy(&value, meeting.slots[source], sizeof(T));
  return value;
}

/// This thread's number within its warp.
int lane();

}  // namespace host_cuda
