// Stopwatch: both kinds of clock.
#include "benchmarks/support/stopwatch.h"

#include <chrono>

#include "tensor/device/launch.h"

namespace vitrine {

struct Stopwatch::Marks {
  using Clock = std::chrono::steady_clock;
  Device device;
  std::vector<Clock::time_point> times;
#if VT_CUDA
  std::vector<cudaEvent_t> events;
#endif
};

Stopwatch::Stopwatch(Device device) : marks_(std::make_unique<Marks>()) { marks_->device = device; }
Stopwatch::~Stopwatch() {
#if VT_CUDA
  for (cudaEvent_t event : marks_->events) (void)cudaEventDestroy(event);
#endif
}

void Stopwatch::mark() {
#if VT_CUDA
  if (marks_->device.is_cuda()) {
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreate(&event));
    marks_->events.push_back(event);
    CUDA_CHECK(cudaEventRecord(event, current_stream()));
    return;
  }
#endif
  marks_->times.push_back(Marks::Clock::now());
}

std::vector<double> Stopwatch::milliseconds() {
  std::vector<double> result;
#if VT_CUDA
  auto& events = marks_->events;
  if (!events.empty()) CUDA_CHECK(cudaEventSynchronize(events.back()));
  for (std::size_t i = 1; i < events.size(); ++i) {
    float elapsed = 0;
    CUDA_CHECK(cudaEventElapsedTime(&elapsed, events[i - 1], events[i]));
    result.push_back(elapsed);
  }
  for (cudaEvent_t event : events) CUDA_CHECK(cudaEventDestroy(event));
  events.clear();
#endif
  auto& times = marks_->times;
  for (std::size_t i = 1; i < times.size(); ++i) {
    result.push_back(std::chrono::duration<double, std::milli>(times[i] - times[i - 1]).count());
  }
  times.clear();
  return result;
}

void wait_for(Device device) {
#if VT_CUDA
  if (device.is_cuda()) CUDA_CHECK(cudaStreamSynchronize(current_stream()));
#endif
  (void)device;
}

}  // namespace vitrine
