// PrefetchLoader: copies the batches that a CPU loader makes to a GPU while the GPU computes, for
// datasets that do not fit into its memory.
//
//   PrefetchLoader loader(std::make_unique<Loader>(dataset, transform, options), cuda(0));
//   for (Batch& batch : loader.epoch(0)) step(batch.images, batch.targets);
//
// Two pinned buffers and two buffers on the GPU take turns. The copy of a batch goes through a
// stream of its own, so it does not wait for the kernels that are queued on the current stream:
// while the GPU still works on batch n, batch n + 1 arrives.
//
//   copy stream:      | copy n + 1 |              | copy n + 2 |
//   current stream:   ... compute n ... | place n + 1 | compute n + 1 ...
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/batch_source.h"

namespace vitrine {

class PrefetchLoader : public BatchSource {
 public:
  /// Throws an Error where `device` is not a CUDA device.
  PrefetchLoader(std::unique_ptr<BatchSource> source, Device device);
  ~PrefetchLoader() override;

  std::int64_t batches_per_epoch() const override;
  void start(std::int64_t epoch, std::int64_t first_batch = 0) override;
  /// The source's next batch with images and targets on the device, and labels on the CPU as
  /// before.
  std::optional<Batch> next_into(const BatchPlace& place) override;
  std::vector<std::string> bad_samples() const override;

 private:
  class Uploader;
  std::unique_ptr<BatchSource> source_;
  std::unique_ptr<Uploader> uploader_;
};

}  // namespace vitrine
