// The caching allocator: freed blocks are kept in size classes and handed out again, because
// touching a fresh page costs more than most kernels spend on it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/device/device.h"

namespace vitrine {

/// Counters of one device's allocator, in bytes unless named otherwise.
struct MemoryStatistics {
  std::size_t in_use = 0;             // handed out now
  std::size_t cached = 0;             // kept for reuse
  std::size_t peak = 0;               // highest `in_use` since the last reset_peak
  std::uint64_t requests = 0;         // calls of allocate
  std::uint64_t system_requests = 0;  // of those, the ones that the cache could not serve
};

/// At least `bytes` bytes, aligned to 64 on the CPU and 256 on CUDA, uninitialised. 0 bytes give
/// nullptr. Throws OutOfMemory (need, in use, cached, peak) after the cache has been emptied in
/// vain (it is kept while a graph is recorded).
void* allocate(std::size_t bytes, Device device);

/// Gives a block back to the cache. `bytes` is the size that was passed to `allocate`.
void deallocate(void* block, std::size_t bytes, Device device) noexcept;

MemoryStatistics memory_statistics(Device device = cpu);
void reset_peak_memory(Device device = cpu);

/// Returns every cached block to the system.
void release_cached_memory(Device device = cpu);

/// Refuses to go beyond this many bytes in use on `device` (0 = no limit). Tests use it to meet
/// OutOfMemory.
void set_memory_limit(std::size_t bytes, Device device = cpu);

/// Separate memory for work that is repeated at the same addresses, as a captured CUDA graph is.
/// While the pool is open, all blocks on its device come from it, and they only ever go back to it.
/// One may be open per device.
class MemoryPool {
 public:
  explicit MemoryPool(Device device);
  ~MemoryPool();  // its blocks become ordinary ones
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  void open();
  void close();

 private:
  Device device_;
};

}  // namespace vitrine
