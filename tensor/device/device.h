// Where a tensor lives: the CPU, or one CUDA device by index.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vitrine {

struct Device {
  enum class Kind : std::uint8_t { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;

  bool is_cpu() const { return kind == Kind::cpu; }
  bool is_cuda() const { return kind == Kind::cuda; }
  bool operator==(const Device&) const = default;
};

inline constexpr Device cpu{};
constexpr Device cuda(int index = 0) { return {Device::Kind::cuda, index}; }

/// "cpu", "cuda:0".
std::string to_string(Device device);

/// "cpu", "cuda" or "cuda:N"; throws and lists these for anything else.
Device device_from_name(std::string_view name);

/// Number of usable CUDA devices: 0 in a build without CUDA and on a machine without a GPU.
int cuda_device_count();

}  // namespace vitrine
