// A block of memory that tensors share, with the version counter that tells whether it was written
// in between.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tensor/device/allocator.h"
#include "tensor/device/device.h"

namespace vitrine {

class Storage {
 public:
  Storage(std::size_t bytes, Device device) : data_(allocate(bytes, device)), bytes_(bytes), device_(device) {}
  ~Storage() { deallocate(data_, bytes_, device_); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  /// Counts in-place writes. `Saved` keeps the version and compares it in backward.
  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  void* data_;
  std::size_t bytes_;
  Device device_;
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace vitrine
