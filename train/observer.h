// TrainObserver: what a training run calls when something has happened. The library never prints;
// the program's observer does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "train/run/checkpoint.h"

namespace vitrine {

/// How far the run is, after a batch.
struct Progress {
  std::int64_t epoch = 0, epochs = 0;
  std::int64_t batch = 0, batches = 0;  // done and in all, of this epoch
  double loss = 0;                      // mean over this epoch's images so far; on a GPU, without the last step's
  double learning_rate = 0;
  double images_per_second = 0;
  double seconds_left = 0;  // of the whole run, estimated from its speed so far
};

class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  /// A line for the user: on the data, the model, the learning rate; or a warning.
  virtual void note(const std::string& /*line*/) {}
  virtual void batch_done(const Progress&) {}
  virtual void evaluating(std::int64_t /*done*/, std::int64_t /*batches*/) {}
  virtual void epoch_done(const EpochSummary&, bool /*is_best*/) {}
  virtual void saved(const std::filesystem::path&) {}
  /// Called between two steps; true ends the run after saving.
  virtual bool should_stop() { return false; }
};

}  // namespace vitrine
