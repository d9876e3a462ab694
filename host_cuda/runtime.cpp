// The runtime API of the played GPU: memory that is closed while no kernel runs, streams without
// concurrency, launches.
#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "host_cuda/cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

struct host_cuda_stream {};
struct host_cuda_graph {
  std::vector<std::function<void()>> work;
};
struct host_cuda_event {
  std::chrono::steady_clock::time_point time;
};

namespace host_cuda {
namespace {

std::recursive_mutex one_at_a_time;
cudaError_t last_error = cudaSuccess;
Counters counts;

bool is_present = true;
std::string fails_next;

host_cuda_graph* capturing = nullptr;

/// The host waits for the device, or would; that cannot be captured.
cudaError_t synchronized();

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// The result of `function`: an error if a test has requested that its next call fails.
cudaError_t result_of(const char* function) {
  if (fails_next != function) return cudaSuccess;
  fails_next.clear();
  return result(cudaErrorMemoryAllocation);
}

/// Two ranges of addresses, reserved at the start and filled from the bottom; freed pieces are used
/// again. The first, for small blocks, is closed while nothing runs on the device. That takes time
/// in proportion to the memory in use, so the second one, for large blocks, is always open, and so
/// is the first where it has grown long.
class DeviceMemory {
 public:
  DeviceMemory() {
    void* base = mmap(nullptr, 2 * range, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) std::abort();
    base_ = static_cast<char*>(base);
    if (mprotect(base_ + range, range, PROT_READ | PROT_WRITE) != 0) std::abort();
    ASAN_POISON_MEMORY_REGION(base_, redzone);  // an index below 0 in the first block of a range is found as well
    ASAN_POISON_MEMORY_REGION(base_ + range, redzone);
  }

  void* allocate(std::size_t bytes) {
    std::size_t size = (bytes + alignment - 1) / alignment * alignment + redzone;
    if (in_use_ + size > total_) return nullptr;
    char* block = take(size);
    if (!block) return nullptr;
    in_use_ += size;
    used_[block] = size;
    ASAN_UNPOISON_MEMORY_REGION(block, bytes);
    ASAN_POISON_MEMORY_REGION(block + bytes, size - bytes);
    return block;
  }

  bool free(void* address) {
    const auto found = used_.find(static_cast<char*>(address));
    if (found == used_.end()) return false;
    ASAN_POISON_MEMORY_REGION(found->first, found->second);
    in_use_ -= found->second;
    free_.emplace(found->second, found->first);
    used_.erase(found);
    return true;
  }

  void open() {
    if (open_count_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    if (--open_count_ == 0 && top_ <= most_closed) protect(PROT_NONE);
  }
  bool holds(const void* address) const { return address >= base_ && address < base_ + 2 * range; }
  std::size_t total() const { return total_; }
  std::size_t in_use() const { return in_use_; }
  void set_total(std::size_t bytes) { total_ = bytes; }

 private:
  static constexpr std::size_t range = std::size_t{32} << 30, alignment = 256, redzone = 256, page = 4096;
  static constexpr std::size_t large_block = std::size_t{1} << 18, most_closed = std::size_t{4} << 20;

  /// The smallest freed piece that is large enough and at most twice as large, or new memory.
  char* take(std::size_t& size) {
    const auto found = free_.lower_bound(size);
    if (found != free_.end() && found->first <= 2 * size) {
      char* block = found->second;
      size = found->first;
      free_.erase(found);
      return block;
    }
    const bool is_large = size >= large_block;
    std::size_t& top = is_large ? large_top_ : top_;
    if (top + size > range) return nullptr;
    char* block = base_ + (is_large ? range : 0) + top;
    top += size;
    if (open_count_ > 0) protect(PROT_READ | PROT_WRITE);
    return block;
  }

  void protect(int rights) {
    if (mprotect(base_, (top_ + page - 1) / page * page, rights) != 0) std::abort();
  }

  char* base_ = nullptr;
  std::size_t top_ = redzone, large_top_ = redzone, in_use_ = 0, total_ = std::size_t{8} << 30;
  int open_count_ = 0;
  std::map<char*, std::size_t> used_;
  std::multimap<std::size_t, char*> free_;
};

DeviceMemory& device_memory() {
  static auto& memory = *new DeviceMemory();
  return memory;
}

std::map<const void*, int>& shared_limits() {
  static auto& limits = *new std::map<const void*, int>();
  return limits;
}

constexpr int most_shared_bytes = 227 * 1024, shared_bytes_without_asking = 48 * 1024;

/// True if a GPU would accept the launch.
bool is_valid(const cudaLaunchConfig_t& config, const void* kernel) {
  const auto volume = [](dim3 d) { return std::uint64_t{d.x} * d.y * d.z; };
  const dim3 grid = config.gridDim, block = config.blockDim;
  const bool sizes = volume(block) >= 1 && volume(block) <= 1024 && block.z <= 64 && volume(grid) >= 1 &&
                     grid.x <= 0x7FFFFFFFu && grid.y <= 65535 && grid.z <= 65535;
  const auto limit = shared_limits().find(kernel);
  const int allowed = std::max(shared_bytes_without_asking, limit == shared_limits().end() ? 0 : limit->second);
  return sizes && config.dynamicSmemBytes <= static_cast<std::size_t>(allowed);
}

cudaError_t synchronized() {
  ++counts.synchronizations;
  return result(capturing ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

}  // namespace

DeviceMemoryOpen::DeviceMemoryOpen() {
  one_at_a_time.lock();
  device_memory().open();
}
DeviceMemoryOpen::~DeviceMemoryOpen() {
  device_memory().close();
  one_at_a_time.unlock();
}

bool is_device_memory(const void* address) { return device_memory().holds(address); }
Counters counters() { return counts; }
void set_device_memory(std::size_t bytes) { device_memory().set_total(bytes); }
void set_device_present(bool present) { is_present = present; }
void fail_next(const std::string& function) { fails_next = function; }

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& body) {
  if (!is_valid(config, kernel)) return result(cudaErrorInvalidConfiguration);
  if (const cudaError_t error = result_of("cudaLaunchKernelEx"); error != cudaSuccess) return error;
  ++counts.launches;
  enqueue([=] { run_grid(config.gridDim, config.blockDim, config.dynamicSmemBytes, body); });
  return cudaSuccess;
}

void enqueue(const std::function<void()>& work) {
  if (capturing) return capturing->work.push_back(work);
  const DeviceMemoryOpen open;
  work();
}

}  // namespace host_cuda

using host_cuda::device_memory;
using host_cuda::result;
using Lock = std::lock_guard<std::recursive_mutex>;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
  }
  return "unrecognized error code";
}
cudaError_t cudaGetLastError() { return std::exchange(host_cuda::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return host_cuda::last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  return *count = host_cuda::is_present ? 1 : 0, result(host_cuda::is_present ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  return *device = 0, result(host_cuda::is_present ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) { return result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaDeviceSynchronize() { return host_cuda::synchronized(); }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      return *value = 2, cudaSuccess;  // few, so that loops over a grid go round
    case cudaDevAttrComputeCapabilityMajor:
      return *value = 8, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      return *value = 0, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return *value = host_cuda::most_shared_bytes, cudaSuccess;
  }
  return result(cudaErrorInvalidValue);
}

cudaError_t cudaMalloc(void** block, std::size_t bytes) {
  const Lock lock(host_cuda::one_at_a_time);
  ++host_cuda::counts.allocations;
  *block = device_memory().allocate(bytes);
  return result(*block ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* block) {
  const Lock lock(host_cuda::one_at_a_time);
  return result(!block || device_memory().free(block) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** block, std::size_t bytes, unsigned) {
  if (const cudaError_t error = host_cuda::result_of("cudaHostAlloc"); error != cudaSuccess) return error;
  ++host_cuda::counts.allocations;
  *block = std::malloc(bytes);
  return result(*block ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* block) { return std::free(block), cudaSuccess; }

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const Lock lock(host_cuda::one_at_a_time);
  *total = device_memory().total();
  *free = *total - device_memory().in_use();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  const bool to_device = host_cuda::is_device_memory(target), from_device = host_cuda::is_device_memory(source);
  const bool fits = kind == cudaMemcpyDefault || kind == (from_device ? 2 : 0) + (to_device ? 1 : 0);
  if (!fits) return result(cudaErrorInvalidValue);
  host_cuda::enqueue([=] { std::memmove(target, source, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* target, int value, std::size_t bytes, cudaStream_t) {
  if (!host_cuda::is_device_memory(target)) return result(cudaErrorInvalidValue);
  host_cuda::enqueue([=] { std::memset(target, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = new host_cuda_stream(), cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return host_cuda::synchronized(); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = new host_cuda_event(), cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return host_cuda::synchronized(); }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = host_cuda::capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (host_cuda::capturing) return result(cudaErrorInvalidValue);
  return host_cuda::capturing = new host_cuda_graph(), cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(host_cuda::capturing, nullptr);
  return result(*graph ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (const cudaError_t error = host_cuda::result_of("cudaGraphInstantiate"); error != cudaSuccess) return error;
  return *executable = new host_cuda_graph(*graph), cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& work : executable->work) host_cuda::enqueue(work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return cudaGraphDestroy(executable); }

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value > host_cuda::most_shared_bytes) return result(cudaErrorInvalidValue);
  const Lock lock(host_cuda::one_at_a_time);
  host_cuda::shared_limits()[kernel] = value;
  return cudaSuccess;
}
