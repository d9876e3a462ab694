// Work for a GPU that is recorded once and repeated with one call: a CUDA graph. The host then
// spends microseconds on a step for which it would otherwise launch hundreds of kernels.
//
//   Graph graph(device, [&] { y = model(x); });   // records; nothing runs yet
//   copy_into(x, images);                         // the graph reads and writes the same tensors each time
//   graph.replay();
//
// The work must have run before in the ordinary way, so that libraries are set up; it must not wait
// for the GPU, nor copy to or from the host. Values that differ between replays must be in device
// memory: see Random::base.
#pragma once

#include <functional>
#include <memory>

#include "tensor/device/device.h"

namespace vitrine {

class Graph {
 public:
  /// Records `work` on the device's current stream. Tensors that it makes live in memory that
  /// belongs to the graph; those that are kept, like y above, hold the results of the last replay.
  /// Throws Error on the CPU and where the work cannot be recorded.
  Graph(Device device, const std::function<void()>& work);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Queues the recorded work.
  void replay();

 private:
  struct Recording;
  std::unique_ptr<Recording> recording_;
};

}  // namespace vitrine
