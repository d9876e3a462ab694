// The caching allocator of both devices: size classes, a list of free blocks for each, statistics.
#include "tensor/device/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tensor/device/launch.h"
#include "tensor/device/poison.h"
#include "tensor/error.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace vitrine {
namespace {

constexpr std::size_t smallest_block = 256;
constexpr std::size_t huge_page = std::size_t{2} << 20;

/// The next size of the form 2^k (1, 1.25, 1.5, 1.75): at most a quarter is wasted, and few classes
/// exist.
std::size_t size_class(std::size_t bytes) {
  if (bytes <= smallest_block) return smallest_block;
  const std::size_t step = std::bit_floor(bytes - 1) / 4;
  return (bytes + step - 1) / step * step;
}

void* system_allocate(std::size_t bytes, Device device) {
#if VT_CUDA
  if (device.is_cuda()) {
    void* block = nullptr;
    cudaError_t status = cudaSetDevice(device.index);
    if (status == cudaSuccess) status = cudaMalloc(&block, bytes);
    if (status == cudaSuccess) return block;
    // Out of memory is not sticky and is cleared; anything else may be the error of an earlier
    // kernel.
    if (status != cudaErrorMemoryAllocation) throw_cuda_error("cudaMalloc", status);
    (void)cudaGetLastError();
    return nullptr;
  }
#else
  VT_CHECK(device.is_cpu(), "allocate: device is {}, expected cpu: this build has no CUDA", to_string(device));
#endif
  const std::size_t alignment = bytes >= huge_page ? huge_page : 64;
  void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
#if defined(__linux__)
  if (block && bytes >= huge_page) madvise(block, bytes, MADV_HUGEPAGE);
#endif
  return block;
}

void system_free(void* block, Device device) noexcept {
#if VT_CUDA
  if (device.is_cuda()) {
    (void)cudaFree(block);
    return;
  }
#endif
  (void)device;
  std::free(block);
}

class Cache {
 public:
  explicit Cache(Device device) : device_(device) {}

  void* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::size_t size = size_class(bytes);
    ++statistics_.requests;
    void* block = nullptr;
    if (limit_ == 0 || statistics_.in_use + size <= limit_) block = find_or_create(size);
    if (!block) throw out_of_memory(bytes);
    statistics_.in_use += size;
    statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
    if (!open_pool_) forbid_access(block, size);  // a replayed graph uses its pool's blocks again and again
    allow_access(block, open_pool_ ? size : bytes);
    return block;
  }

  void give(void* block, std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    const std::size_t size = size_class(bytes);
    statistics_.in_use -= size;
    statistics_.cached += size;
    const auto pool = pool_of_.find(block);
    if (pool == pool_of_.end()) forbid_access(block, size);
    free_[pool == pool_of_.end() ? nullptr : pool->second][size].push_back(block);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    release_all();
  }

  MemoryStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

  std::string description() {
    const std::lock_guard lock(mutex_);
    return describe();
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.in_use;
  }

  void open(const MemoryPool* pool) {
    const std::lock_guard lock(mutex_);
    open_pool_ = pool;
  }

  void dissolve(const MemoryPool* pool) {
    const std::lock_guard lock(mutex_);
    if (open_pool_ == pool) open_pool_ = nullptr;
    for (auto& [size, blocks] : free_[pool]) {
      auto& ordinary = free_[nullptr][size];
      ordinary.insert(ordinary.end(), blocks.begin(), blocks.end());
    }
    free_.erase(pool);
    std::erase_if(pool_of_, [&](const auto& entry) { return entry.second == pool; });
  }

  void set_limit(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
  }

 private:
  void* find_or_create(std::size_t size) {
    std::vector<void*>& blocks = free_[open_pool_][size];
    if (!blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      statistics_.cached -= size;
      return block;
    }
    ++statistics_.system_requests;
    void* block = system_allocate(size, device_);
    if (!block) {  // the cache may hold what the system lacks, in other size classes
      release_all();
      block = system_allocate(size, device_);
    }
    if (block && open_pool_) pool_of_[block] = open_pool_;
    return block;
  }

  /// Keeps all while a graph is recorded: cudaFree waits for the GPU, and the graph may use what
  /// was freed meanwhile.
  void release_all() {
    if (open_pool_) return;
    for (auto& [size, blocks] : free_[nullptr]) {
      for (void* block : blocks) system_free(block, device_);
      statistics_.cached -= size * blocks.size();
      blocks.clear();
    }
  }

  OutOfMemory out_of_memory(std::size_t bytes) const {
    return OutOfMemory(fmt::format("out of memory on {}: need {} bytes, {}", to_string(device_), bytes, describe()),
                       bytes);
  }

  std::string describe() const {
    return fmt::format("{} in use, {} cached, peak {}{}{}", statistics_.in_use, statistics_.cached, statistics_.peak,
                       limit_ ? fmt::format(", limit {}", limit_) : "", free_on_device());
  }

  std::string free_on_device() const {
#if VT_CUDA
    std::size_t free = 0, total = 0;
    if (device_.is_cuda() && cudaMemGetInfo(&free, &total) == cudaSuccess) {
      return fmt::format(", {} of {} free on the device", free, total);
    }
#endif
    return "";
  }

  Device device_;
  std::mutex mutex_;
  /// Free blocks by the pool that they belong to (null: none) and by size.
  std::map<const MemoryPool*, std::map<std::size_t, std::vector<void*>>> free_;
  std::unordered_map<void*, const MemoryPool*> pool_of_;  // of all blocks of pools, free or not
  const MemoryPool* open_pool_ = nullptr;
  MemoryStatistics statistics_;
  std::size_t limit_ = 0;
};

/// One cache per device. Never destroyed: tensors in static storage may be freed after everything
/// else.
Cache& cache_of(Device device) {
  static std::mutex mutex;
  static auto& caches = *new std::map<std::pair<bool, int>, Cache*>();
  const std::lock_guard lock(mutex);
  Cache*& cache = caches[{device.is_cuda(), device.index}];
  if (!cache) cache = new Cache(device);
  return *cache;
}

}  // namespace

MemoryPool::MemoryPool(Device device) : device_(device) {}
MemoryPool::~MemoryPool() { cache_of(device_).dissolve(this); }
void MemoryPool::open() { cache_of(device_).open(this); }
void MemoryPool::close() { cache_of(device_).open(nullptr); }

void* allocate(std::size_t bytes, Device device) { return bytes == 0 ? nullptr : cache_of(device).take(bytes); }

void deallocate(void* block, std::size_t bytes, Device device) noexcept {
  if (block) cache_of(device).give(block, bytes);
}

#if VT_CUDA
void throw_cuda_error(const char* call, cudaError_t status) {
  const std::string message = fmt::format("cuda: {} failed: {}", call, cudaGetErrorString(status));
  if (status != cudaErrorMemoryAllocation) throw Error(message);
  (void)cudaGetLastError();  // out of memory is not sticky; clear it
  int device = 0;
  (void)cudaGetDevice(&device);
  throw OutOfMemory(fmt::format("{} on {}: {}", message, to_string(cuda(device)), cache_of(cuda(device)).description()),
                    0);
}
#endif

MemoryStatistics memory_statistics(Device device) { return cache_of(device).statistics(); }
void reset_peak_memory(Device device) { cache_of(device).reset_peak(); }
void release_cached_memory(Device device) { cache_of(device).release(); }
void set_memory_limit(std::size_t bytes, Device device) { cache_of(device).set_limit(bytes); }

}  // namespace vitrine
