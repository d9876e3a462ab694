// Slots of pinned memory that copies from the GPU land in; free ones are kept for the next
// ReadBack.
#include "tensor/read_back.h"

#include <mutex>
#include <utility>

#include "tensor/device/launch.h"

namespace vitrine {

#if VT_CUDA
struct ReadBack::Slot {
  static constexpr std::size_t most = 512;  // elements
  double* elements = nullptr;
  cudaEvent_t copied = nullptr;

  Slot() {
    CUDA_CHECK(cudaHostAlloc(reinterpret_cast<void**>(&elements), most * sizeof(double), cudaHostAllocDefault));
    CUDA_CHECK(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
  }

  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static std::vector<Slot*>& free() {
    static auto& list = *new std::vector<Slot*>();  // never destroyed: CUDA may be gone by then
    return list;
  }
  static Slot* take() {
    const std::lock_guard lock(mutex());
    if (free().empty()) return new Slot();
    Slot* slot = free().back();
    free().pop_back();
    return slot;
  }
  static void give(Slot* slot) {
    const std::lock_guard lock(mutex());
    free().push_back(slot);
  }
};
#else
struct ReadBack::Slot {};
#endif

ReadBack::ReadBack(const Tensor& x) : count_(static_cast<std::size_t>(x.numel())) {
  VT_CHECK(x.dtype() == DType::f64 && x.is_contiguous(), "read_back: x is {} {}, expected row-major f64",
           name_of(x.dtype()), to_string(x.shape()));
#if VT_CUDA
  if (x.device().is_cuda()) {
    VT_CHECK(count_ <= Slot::most, "read_back: x has {} elements, expected at most {}", count_, Slot::most);
    slot_ = Slot::take();
    CUDA_CHECK(cudaMemcpyAsync(slot_->elements, x.raw_data(), count_ * sizeof(double), cudaMemcpyDeviceToHost,
                               current_stream()));
    CUDA_CHECK(cudaEventRecord(slot_->copied, current_stream()));
    return;
  }
#endif
  values_ = x.to_vector<double>();
}

ReadBack::~ReadBack() {
#if VT_CUDA
  if (slot_) Slot::give(slot_);
#endif
}

ReadBack::ReadBack(ReadBack&& other) noexcept
    : slot_(std::exchange(other.slot_, nullptr)), count_(other.count_), values_(std::move(other.values_)) {}

ReadBack& ReadBack::operator=(ReadBack&& other) noexcept {
  std::swap(slot_, other.slot_);
  std::swap(count_, other.count_);
  std::swap(values_, other.values_);
  return *this;
}

std::vector<double> ReadBack::get() const {
#if VT_CUDA
  if (slot_) {
    if (cudaEventQuery(slot_->copied) != cudaSuccess) {
      (void)cudaGetLastError();  // "not ready" is no error
      CUDA_CHECK(cudaEventSynchronize(slot_->copied));
    }
    return {slot_->elements, slot_->elements + count_};
  }
#endif
  return values_;
}

}  // namespace vitrine
