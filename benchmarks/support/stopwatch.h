// A stopwatch that lies in the order of a device's work: CUDA events on its stream, or the clock of
// the CPU.
#pragma once

#include <memory>
#include <vector>

#include "tensor/device/device.h"

namespace vitrine {

/// mark() before and after what is to be timed, then milliseconds().
class Stopwatch {
 public:
  explicit Stopwatch(Device device);
  ~Stopwatch();

  /// A point between the work that was asked for before and after it. Does not wait for the device.
  void mark();

  /// The time between each two neighbouring marks, once the device has passed the last one. Forgets
  /// the marks.
  std::vector<double> milliseconds();

 private:
  struct Marks;
  std::unique_ptr<Marks> marks_;
};

/// Waits until everything that was asked of the device is done.
void wait_for(Device device);

}  // namespace vitrine
