// Devices: their names, and how many there are.
#include "tensor/device/device.h"

#include <charconv>
#include <map>
#include <mutex>

#include "tensor/device/launch.h"
#include "tensor/error.h"

namespace vitrine {

std::string to_string(Device device) { return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index); }

Device device_from_name(std::string_view name) {
  if (name == "cpu") return cpu;
  if (name == "cuda") return cuda(0);
  constexpr std::string_view prefix = "cuda:";
  int index = -1;
  if (name.starts_with(prefix)) {
    const char* end = name.data() + name.size();
    const auto result = std::from_chars(name.data() + prefix.size(), end, index);
    if (result.ec == std::errc() && result.ptr == end && index >= 0) return cuda(index);
  }
  throw Error(fmt::format("device: '{}' is unknown, expected cpu, cuda or cuda:N", name));
}

#if VT_CUDA
int cuda_device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

cudaStream_t current_stream() {
  static std::mutex mutex;
  static auto& streams = *new std::map<int, cudaStream_t>();  // by device; never destroyed: CUDA may be gone by then
  int device = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  cudaStream_t& stream = streams[device];
  if (!stream) CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}
#else
int cuda_device_count() { return 0; }
#endif

}  // namespace vitrine
