// Loader: batches of an epoch, made ahead by worker threads, the same bits for any number of them.
//
//   Loader loader(dataset, TrainTransform{.image_size = 32}, {.batch_size = 128, .seed = 1, .workers = 2});
//   for (Batch& batch : loader.epoch(0)) step(batch.images, batch.labels);
//   for (Batch& batch : loader.epoch(3, 40)) ...      // goes on from batch 40 of epoch 3
//
// The order of an epoch depends on (seed, epoch), a sample's augmentation on (seed, epoch, sample, which of its
// repeats), the mixing on (seed, epoch, number of the batch). Leaving the loop early is fine.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/dataset.h"
#include "data/mixing.h"
#include "data/repeat.h"
#include "data/transforms.h"

namespace vitrine {

struct LoaderOptions {
  std::int64_t batch_size = 128;
  std::uint64_t seed = 0;
  int workers = 2;                    // threads; 0 = the work is done inside next()
  int prefetch = 4;                   // batches that are ready or in the making, at most
  bool shuffle = true;                // else the dataset's order
  bool drop_last = true;              // leave out the last batch where it would be smaller
  int repeats = 1;                    // repeated augmentation: see repeated_order
  std::optional<Mixing> mixing = {};  // fills Batch::targets
  /// Samples that cannot be read: up to so many different ones are replaced by the next sample that can, and
  /// listed in bad_samples(); one more is an Error. 0: the first is an Error.
  std::int64_t bad_samples_allowed = 0;
};

class Loader {
 public:
  Loader(DatasetPtr dataset, Transform transform, LoaderOptions options);
  ~Loader();  // stops the workers at the next sample
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  std::int64_t batches_per_epoch() const;
  const Dataset& dataset() const;
  const LoaderOptions& options() const;

  /// Starts `epoch` at batch `first_batch`; whatever was under way is dropped.
  void start(std::int64_t epoch, std::int64_t first_batch = 0);

  /// The next batch of the epoch, or nothing after the last. An exception of a worker is rethrown here, in
  /// the place of its batch; its message begins with the sample's name. After that the epoch is over.
  std::optional<Batch> next();

  /// "path: reason" of the samples that were replaced so far, in order of their index.
  std::vector<std::string> bad_samples() const;

  /// A range over start() and next(), for `for`.
  class Epoch {
   public:
    struct End {};
    class Iterator {
     public:
      explicit Iterator(Loader& loader) : loader_(&loader), batch_(loader.next()) {}
      Batch& operator*() { return *batch_; }
      Iterator& operator++() {
        batch_.reset();  // its memory can serve again before the next one is asked for
        batch_ = loader_->next();
        return *this;
      }
      bool operator==(End) const { return !batch_.has_value(); }

     private:
      Loader* loader_;
      std::optional<Batch> batch_;
    };
    explicit Epoch(Loader& loader) : loader_(&loader) {}
    Iterator begin() { return Iterator(*loader_); }
    End end() const { return {}; }

   private:
    Loader* loader_;
  };
  Epoch epoch(std::int64_t epoch, std::int64_t first_batch = 0) {
    start(epoch, first_batch);
    return Epoch(*this);
  }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The order in which `epoch` visits `size` samples: a Fisher-Yates shuffle by (seed, epoch).
std::vector<std::int64_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch);

}  // namespace vitrine
