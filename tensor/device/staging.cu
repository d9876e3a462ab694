// The pinned buffers: each is free again when the event that follows its copy has completed.
#include "tensor/device/staging.h"

#include "tensor/device/launch.h"

#if VT_CUDA
#include <cstring>
#include <mutex>
#include <vector>

namespace vitrine {
namespace {

struct Buffer {
  void* memory = nullptr;
  std::size_t bytes = 0;
  cudaEvent_t copied = nullptr;
};

/// Oldest copy first.
class Buffers {
 public:
  void copy(void* target, const void* source, std::size_t bytes) {
    // A replayed graph would read the buffer again, which holds another copy's bytes by then.
    cudaStreamCaptureStatus capture{};
    CUDA_CHECK(cudaStreamIsCapturing(current_stream(), &capture));
    VT_CHECK(capture == cudaStreamCaptureStatusNone,
             "copy to the GPU: {} bytes of host memory cannot become part of a recorded graph", bytes);
    const std::lock_guard lock(mutex_);
    Buffer buffer = take(bytes);
    std::memcpy(buffer.memory, source, bytes);
    CUDA_CHECK(cudaMemcpyAsync(target, buffer.memory, bytes, cudaMemcpyHostToDevice, current_stream()));
    CUDA_CHECK(cudaEventRecord(buffer.copied, current_stream()));
    buffers_.push_back(buffer);
  }

 private:
  static constexpr std::size_t most = 8, smallest = 4096;

  /// A large enough buffer whose copy is complete; else a new one; with `most` in use, the oldest.
  Buffer take(std::size_t bytes) {
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      if (buffers_[i].bytes >= bytes && cudaEventQuery(buffers_[i].copied) == cudaSuccess) return remove(i);
    }
    (void)cudaGetLastError();  // "not ready" is no error
    if (buffers_.size() >= most) {
      Buffer oldest = remove(0);
      CUDA_CHECK(cudaEventSynchronize(oldest.copied));
      if (oldest.bytes >= bytes) return oldest;
      CUDA_CHECK(cudaFreeHost(oldest.memory));
      return allocate(bytes, oldest.copied);
    }
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return allocate(bytes, event);
  }

  Buffer remove(std::size_t i) {
    const Buffer buffer = buffers_[i];
    buffers_.erase(buffers_.begin() + static_cast<std::ptrdiff_t>(i));
    return buffer;
  }

  static Buffer allocate(std::size_t bytes, cudaEvent_t event) {
    Buffer buffer{nullptr, bytes < smallest ? smallest : bytes, event};
    const cudaError_t status = cudaHostAlloc(&buffer.memory, buffer.bytes, cudaHostAllocDefault);
    if (status == cudaSuccess) return buffer;
    (void)cudaEventDestroy(event);
    throw_cuda_error("cudaHostAlloc", status);
  }

  std::mutex mutex_;
  std::vector<Buffer> buffers_;
};

}  // namespace

void copy_to_device(void* target, const void* source, std::size_t bytes) {
  static auto& buffers = *new Buffers();  // never destroyed: CUDA may be gone by then
  buffers.copy(target, source, bytes);
}

}  // namespace vitrine
#endif
