// Numbers that come back from a GPU later: the copy is queued, the host goes on, and asks for them
// when they should be there.
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

  /// The numbers; waits for them where they are still under way.
  std::vector<double> get() const;

 private:
  struct Slot;
  Slot* slot_ = nullptr;  // null: the numbers are in values_
  std::size_t count_ = 0;
  std::vector<double> values_;
};

}  // namespace vitrine
