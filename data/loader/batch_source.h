// BatchSource: what a training or an evaluation loop reads its batches from, wherever they are
// made.
//
//   for (Batch& batch : source.epoch(0)) step(batch.images, batch.labels);
//   for (Batch& batch : source.epoch(3, 40)) ...      // goes on from batch 40 of epoch 3
//
// Loader (data/loader/loader.h) makes batches on the CPU, DeviceLoader
// (data/loader/device_loader.h) on a GPU, and PrefetchLoader (data/loader/prefetch_loader.h) copies
// those of a Loader to a GPU. With the same options they give the same batches.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/datasets/batch.h"

namespace vitrine {

/// Tensors that a batch shall be written into: the inputs of a recorded CUDA graph, which reads the
/// same memory each time.
struct BatchPlace {
  Tensor images, targets;  // as in Batch; undefined: a tensor of the batch's own
};

/// A tensor of this kind: `place` itself if it is one, else a new one, uninitialised.
Tensor placed(const Tensor& place, const Shape& shape, DType dtype, Device device);

class BatchSource {
 public:
  BatchSource() = default;
  virtual ~BatchSource() = default;
  BatchSource(const BatchSource&) = delete;
  BatchSource& operator=(const BatchSource&) = delete;

  virtual std::int64_t batches_per_epoch() const = 0;

  /// Starts `epoch` at batch `first_batch`, and drops the batches that are in the making.
  virtual void start(std::int64_t epoch, std::int64_t first_batch = 0) = 0;

  /// The next batch of the epoch, or nothing after the last. Where a batch cannot be made, this
  /// call throws the reason instead of giving the batch; the message begins with the sample's name.
  std::optional<Batch> next() { return next_into({}); }

  /// The same. A source whose batches are on the device of `place` writes into those of its tensors
  /// that have the batch's shape and dtype, and the batch then holds them. Any other source ignores
  /// `place`.
  virtual std::optional<Batch> next_into(const BatchPlace& place) = 0;

  /// "path: reason" of the samples that were replaced so far, in order of their index.
  virtual std::vector<std::string> bad_samples() const = 0;

  /// A range over start() and next(), for `for`.
  class Epoch {
   public:
    struct End {};
    class Iterator {
     public:
      explicit Iterator(BatchSource& source) : source_(&source), batch_(source.next()) {}
      Batch& operator*() { return *batch_; }
      Iterator& operator++() {
        batch_.reset();  // its memory can serve again before the next one is asked for
        batch_ = source_->next();
        return *this;
      }
      bool operator==(End) const { return !batch_.has_value(); }

     private:
      BatchSource* source_;
      std::optional<Batch> batch_;
    };
    explicit Epoch(BatchSource& source) : source_(&source) {}
    Iterator begin() { return Iterator(*source_); }
    End end() const { return {}; }

   private:
    BatchSource* source_;
  };
  Epoch epoch(std::int64_t epoch, std::int64_t first_batch = 0) {
    start(epoch, first_batch);
    return Epoch(*this);
  }
};

}  // namespace vitrine
