// The one door to the GPU: kernels are launched through launch(), so that another build can run the
// same kernels elsewhere.
#pragma once

#include "tensor/device/host_device.h"

#if VT_CUDA
#include <cuda_runtime.h>

#include "tensor/error.h"

namespace vitrine {

/// Throws OutOfMemory where `status` says so, else Error, with CUDA's own words for what became of
/// `call`.
[[noreturn]] void throw_cuda_error(const char* call, cudaError_t status);

#define CUDA_CHECK(call)                          \
  do {                                            \
    const cudaError_t status = (call);            \
    if (status != cudaSuccess) [[unlikely]]       \
      ::vitrine::throw_cuda_error(#call, status); \
  } while (false)

/// The stream that the library works on: one for each device. What is queued on it runs in order,
/// so a block of memory can go back to the cache while a kernel that reads it is still queued: the
/// kernels of the block's next owner run after it.
cudaStream_t current_stream();

/// Starts kernel(args...) on `grid` x `block` threads with `shared_bytes` of dynamic shared memory.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            Arguments... arguments) {
  if (shared_bytes > 48 * 1024) {  // more than 48 KiB has to be requested
    CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

/// The dynamic shared memory of this block, `shared_bytes` of launch(), aligned to 128 bytes.
template <class T>
__device__ T* dynamic_shared() {
#if defined(__CUDACC__)
  extern __shared__ __align__(128) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
#else
  return static_cast<T*>(host_cuda::dynamic_shared_memory());
#endif
}

/// Blocks for a grid-stride loop over `items`, `per_block` each: enough to fill any GPU, never more
/// than needed.
inline dim3 grid_for(std::int64_t items, std::int64_t per_block) {
  const std::int64_t blocks = (items + per_block - 1) / per_block;
  return dim3(static_cast<unsigned>(blocks < 1 ? 1 : (blocks > 8192 ? 8192 : blocks)));
}

}  // namespace vitrine
#endif
