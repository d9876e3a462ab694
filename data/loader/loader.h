// Loader: batches of an epoch, made ahead by worker threads, the same bits for any number of them.
//
//   Loader loader(dataset, TrainTransform{.image_size = 32}, {.batch_size = 128, .seed = 1, .workers = 2});
//   for (Batch& batch : loader.epoch(0)) step(batch.images, batch.labels);
//   for (Batch& batch : loader.epoch(3, 40)) ...      // goes on from batch 40 of epoch 3
//
// The order of an epoch depends on (seed, epoch), a sample's augmentation on (seed, epoch, sample,
// which of its repeats), the mixing on (seed, epoch, number of the batch). Leaving the loop early
// is fine.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/augment/transforms.h"
#include "data/datasets/dataset.h"
#include "data/loader/batch_source.h"
#include "data/loader/epoch.h"

namespace vitrine {

class Loader : public BatchSource {
 public:
  Loader(DatasetPtr dataset, Transform transform, LoaderOptions options);
  ~Loader() override;  // stops the workers at the next sample

  std::int64_t batches_per_epoch() const override;
  const Dataset& dataset() const;
  const LoaderOptions& options() const;

  void start(std::int64_t epoch, std::int64_t first_batch = 0) override;
  /// An exception of a worker is rethrown here. After that the epoch is over.
  std::optional<Batch> next_into(const BatchPlace&) override;
  std::vector<std::string> bad_samples() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vitrine
