// The second stream, its buffers, and the events between the two streams.
#include "data/loader/prefetch_loader.h"

#include <array>
#include <cstring>

#include "tensor/device/launch.h"
#include "tensor/error.h"
#include "tensor/parallel.h"

namespace vitrine {

#if VT_CUDA
class PrefetchLoader::Uploader {
 public:
  explicit Uploader(Device device) : device_(device) {
    VT_CHECK(device.is_cuda(), "prefetch loader: device is {}, expected a CUDA device", to_string(device));
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    for (Slot& slot : slots_) {
      CUDA_CHECK(cudaEventCreateWithFlags(&slot.arrived, cudaEventDisableTiming));
      CUDA_CHECK(cudaEventCreateWithFlags(&slot.taken, cudaEventDisableTiming));
    }
  }
  ~Uploader() {
    (void)cudaStreamSynchronize(stream_);
    for (Slot& slot : slots_) {
      if (slot.pinned) (void)cudaFreeHost(slot.pinned);
      if (slot.arrived) (void)cudaEventDestroy(slot.arrived);
      if (slot.taken) (void)cudaEventDestroy(slot.taken);
    }
    (void)cudaStreamDestroy(stream_);
  }

  /// Moves images and targets of the batch to the device, into `place` where they fit.
  void upload(Batch& batch, const BatchPlace& place) {
    Slot& slot = slots_[next_++ % slots_.size()];
    const std::size_t image_bytes = bytes_of(batch.images), target_bytes = bytes_of(batch.targets);
    const std::size_t target_offset = (image_bytes + 255) / 256 * 256;
    reserve(slot, target_offset + target_bytes);
    copy_to_pinned(slot.pinned, batch.images.raw_data(), image_bytes);
    if (target_bytes > 0) copy_to_pinned(slot.pinned + target_offset, batch.targets.raw_data(), target_bytes);

    // The copy stream may write once the current stream has taken what was here before ...
    CUDA_CHECK(cudaStreamWaitEvent(stream_, slot.taken, 0));
    CUDA_CHECK(cudaMemcpyAsync(slot.buffer.raw_data(), slot.pinned, target_offset + target_bytes,
                               cudaMemcpyHostToDevice, stream_));
    CUDA_CHECK(cudaEventRecord(slot.arrived, stream_));
    // ... and the current stream may read once the copy stream is done.
    CUDA_CHECK(cudaStreamWaitEvent(current_stream(), slot.arrived, 0));
    batch.images = take(slot, 0, batch.images, place.images);
    if (target_bytes > 0) batch.targets = take(slot, target_offset, batch.targets, place.targets);
    CUDA_CHECK(cudaEventRecord(slot.taken, current_stream()));
  }

 private:
  struct Slot {
    std::uint8_t* pinned = nullptr;
    std::size_t bytes = 0;
    Tensor buffer;                                   // u8, on the device
    cudaEvent_t arrived = nullptr, taken = nullptr;  // on the copy stream, on the current stream
  };

  static std::size_t bytes_of(const Tensor& x) {
    return x.defined() ? static_cast<std::size_t>(x.numel()) * size_of(x.dtype()) : 0;
  }

  /// Makes the slot's buffers at least `bytes` long, after the copy out of the pinned one is done.
  void reserve(Slot& slot, std::size_t bytes) {
    if (cudaEventQuery(slot.arrived) != cudaSuccess) {
      (void)cudaGetLastError();  // "not ready" is no error
      CUDA_CHECK(cudaEventSynchronize(slot.arrived));
    }
    if (slot.bytes >= bytes) return;
    if (slot.pinned) CUDA_CHECK(cudaFreeHost(slot.pinned));
    slot.pinned = nullptr;
    slot.bytes = 0;
    CUDA_CHECK(cudaHostAlloc(reinterpret_cast<void**>(&slot.pinned), bytes, cudaHostAllocDefault));
    slot.buffer = empty({static_cast<std::int64_t>(bytes)}, DType::u8, device_);
    slot.bytes = bytes;
    // The memory may come from a tensor that kernels in the current stream still read: the copy
    // stream comes after them.
    CUDA_CHECK(cudaEventRecord(slot.taken, current_stream()));
  }

  static void copy_to_pinned(std::uint8_t* target, const void* source, std::size_t bytes) {
    const auto* from = static_cast<const std::uint8_t*>(source);
    parallel_for(static_cast<std::int64_t>(bytes), 1 << 20, [&](std::int64_t begin, std::int64_t end) {
      std::memcpy(target + begin, from + begin, static_cast<std::size_t>(end - begin));
    });
  }

  /// The tensor `like` out of the slot, in `place` or in memory of its own, so that the slot is
  /// free again at once.
  Tensor take(const Slot& slot, std::size_t offset, const Tensor& like, const Tensor& place) const {
    Tensor target = placed(place, like.shape(), like.dtype(), device_);
    target.storage()->bump_version();
    const auto* source = static_cast<const std::uint8_t*>(slot.buffer.raw_data()) + offset;
    CUDA_CHECK(cudaMemcpyAsync(target.raw_data(), source, bytes_of(like), cudaMemcpyDeviceToDevice, current_stream()));
    return target;
  }

  Device device_;
  cudaStream_t stream_ = nullptr;
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;
};
#else
class PrefetchLoader::Uploader {
 public:
  explicit Uploader(Device device) {
    throw Error(fmt::format("prefetch loader: device is {}, expected a CUDA device", to_string(device)));
  }
  void upload(Batch&, const BatchPlace&) {}
};
#endif

PrefetchLoader::PrefetchLoader(std::unique_ptr<BatchSource> source, Device device)
    : source_(std::move(source)), uploader_(std::make_unique<Uploader>(device)) {}

PrefetchLoader::~PrefetchLoader() = default;

std::int64_t PrefetchLoader::batches_per_epoch() const { return source_->batches_per_epoch(); }
void PrefetchLoader::start(std::int64_t epoch, std::int64_t first_batch) { source_->start(epoch, first_batch); }
std::vector<std::string> PrefetchLoader::bad_samples() const { return source_->bad_samples(); }

std::optional<Batch> PrefetchLoader::next_into(const BatchPlace& place) {
  std::optional<Batch> batch = source_->next();
  if (batch) uploader_->upload(*batch, place);
  return batch;
}

}  // namespace vitrine
