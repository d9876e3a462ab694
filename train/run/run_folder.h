// RunFolder: <output>/<stamp>-<model>-<size>/ with args.yaml, summary.csv, last, checkpoint-N,
// model_best and the weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "train/recipe/recipe.h"
#include "train/run/checkpoint.h"

namespace vitrine {

class RunFolder {
 public:
  /// A new folder for this recipe; -2, -3, ... is appended to a name that is taken.
  static RunFolder create(const Recipe& recipe, std::int64_t image_size);
  /// The folder of a run that goes on.
  static RunFolder open(const std::filesystem::path& checkpoint);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path last() const { return path_ / "last.safetensors"; }
  std::filesystem::path best() const { return path_ / "model_best.safetensors"; }

  void write_recipe(const Recipe& recipe) const;                       // args.yaml
  void write_summary(const std::vector<EpochSummary>& history) const;  // summary.csv

  /// Replaces last.
  void save(const Checkpoint& checkpoint) const;
  /// Replaces last, keeps it as checkpoint-<epoch> among the `keep` newest of these, and as
  /// model_best if it is.
  void save_epoch(const Checkpoint& checkpoint, std::int64_t epoch, bool is_best, std::int64_t keep) const;

 private:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace vitrine
