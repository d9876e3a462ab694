// An asynchronous copy of a small tensor from the GPU: the constructor queues it, the host goes on,
// and get() returns the elements later.
#pragma once

#include <vector>

#include "tensor/tensor.h"

namespace vitrine {

class ReadBack {
 public:
  /// Queues a copy of x (f64, row-major, at most 512 elements). On the CPU it is made at once.
  explicit ReadBack(const Tensor& x);
  ~ReadBack();
  ReadBack(ReadBack&& other) noexcept;
  ReadBack& operator=(ReadBack&& other) noexcept;

  /// The elements; waits until the copy is complete.
  std::vector<double> get() const;

 private:
  struct Slot;
  Slot* slot_ = nullptr;  // null: the elements are in values_
  std::size_t count_ = 0;
  std::vector<double> values_;
};

}  // namespace vitrine
