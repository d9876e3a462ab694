// What all loaders share: their options, the order of an epoch, and the replacement of samples that
// cannot be read.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "data/augment/mixing.h"
#include "data/datasets/dataset.h"
#include "tensor/philox.h"

namespace vitrine {

// Repeated augmentation: each image several times in a row, augmented anew each time, in an epoch
// that is no longer. Sources: Hoffer et al., "Augment your batch" (2020); the order is that of
// DeiT's RASampler. There the repeats go to different processes, and a single process leaves them
// out; here they stand in one batch, also on a single process.

/// How many samples an epoch over `size` images has: with repeats the largest multiple of 256 up to
/// size, or all of them below 256, so that 1 / repeats of the images have their turn; else size.
std::int64_t samples_per_epoch(std::int64_t size, int repeats);

/// Each entry `repeats` times in a row, cut to samples_per_epoch.
std::vector<std::int64_t> repeated_order(const std::vector<std::int64_t>& order, int repeats);

struct LoaderOptions {
  std::int64_t batch_size = 128;
  std::uint64_t seed = 0;
  int workers = 2;                    // threads; 0 = the work is done inside next()
  int prefetch = 4;                   // batches that are ready or in the making, at most
  bool shuffle = true;                // else the dataset's order
  bool drop_last = true;              // leave out the last batch where it would be smaller
  int repeats = 1;                    // repeated augmentation: see repeated_order
  std::optional<Mixing> mixing = {};  // fills Batch::targets
  std::int64_t classes = 0;           // K, the columns of Batch::targets; 0 = the classes of the dataset
  /// How many different samples that cannot be read are replaced by the next one that can, and
  /// listed in bad_samples(); one more is an Error. 0: the first is an Error.
  std::int64_t bad_samples_allowed = 0;

  /// Throws an Error that names the option whose value does not fit the dataset.
  void check(const DatasetPtr& dataset) const;
  std::int64_t samples(std::int64_t size) const { return samples_per_epoch(size, repeats); }  // of an epoch
  std::int64_t batches_per_epoch(std::int64_t size) const;  // over a dataset of `size` images
  std::int64_t target_classes(const Dataset& dataset) const { return classes > 0 ? classes : dataset.num_classes(); }
};

/// The order in which `epoch` visits `size` samples: a Fisher-Yates shuffle by (seed, epoch).
std::vector<std::int64_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch);

/// The same with the options' repeats, or 0, 1, 2, ... where they do not shuffle.
std::vector<std::int64_t> sample_order(const LoaderOptions& options, std::int64_t size, std::int64_t epoch);

/// The random numbers for the augmentation of sample `index`, of a dataset of `size`, which stands
/// at `position` of the epoch's order. Each repeat draws anew.
RandomSequence augmentation_numbers(const LoaderOptions& options, std::int64_t epoch, std::int64_t position,
                                    std::int64_t index, std::int64_t size);

/// Throws an Error unless a loader with `batches` batches per epoch can start at batch
/// `first_batch` of `epoch`.
void check_start(std::int64_t epoch, std::int64_t first_batch, std::int64_t batches);

/// dataset.get(index), with a label that the dataset has.
Sample checked_sample(const Dataset& dataset, std::int64_t index);

/// Replaces samples that cannot be read, and remembers them. May be used by many threads at once.
class BadSamples {
 public:
  BadSamples(DatasetPtr dataset, std::int64_t allowed) : dataset_(std::move(dataset)), allowed_(allowed) {}

  /// read(index); where that throws, the same for the next sample, and `index` becomes that. An
  /// Error once more samples than allowed could not be read.
  template <class Read>
  auto replacing(std::int64_t& index, const Read& read) {
    for (std::int64_t attempt = 0; attempt < dataset_->size(); ++attempt) {
      std::string reason;
      try {
        return read(index);
      } catch (const std::exception& failure) {
        reason = failure.what();
      }
      note(index, reason);
      index = (index + 1) % dataset_->size();
    }
    throw Error(fmt::format("loader: none of {} samples can be read", dataset_->size()));
  }

  /// "path: reason" in order of the index.
  std::vector<std::string> list() const;

 private:
  void note(std::int64_t index, const std::string& reason);

  const DatasetPtr dataset_;
  const std::int64_t allowed_;
  mutable std::mutex mutex_;
  std::map<std::int64_t, std::string> reasons_;
};

}  // namespace vitrine
