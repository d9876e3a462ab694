// The batches of a run: made on the GPU where the data and their preparation allow it, else made on
// the
// CPU and copied.
#pragma once

#include <memory>
#include <string>

#include "data/loader/batch_source.h"
#include "train/recipe/setup.h"

namespace vitrine {

/// A source of batches and, on a GPU, a note on where the images are: "50000 kept on cuda:0 as
/// bytes, 154 MB".
struct Batches {
  std::unique_ptr<BatchSource> source;
  std::string note;
};

/// Batches to train a model with `classes` outputs. With `device-data: auto` on a GPU, the images
/// of a small set stay there.
Batches training_batches(const Recipe& recipe, const TrainingData& data, const PretrainedConfig& preprocessing,
                         std::int64_t classes, Placement placement);

/// Batches of all images of data.val in order, kept on the GPU likewise.
Batches evaluation_batches(const Recipe& recipe, const TrainingData& data, const PretrainedConfig& preprocessing,
                           Placement placement);

}  // namespace vitrine
