// Where the batches of a run come from: made on the GPU where the data and their preparation allow it, else on the CPU and copied.
#pragma once

#include <memory>
#include <string>

#include "data/loader/batch_source.h"
#include "train/recipe/setup.h"

namespace vitrine {

/// A source of batches and, on a GPU, what has become of the images: "50000 kept on cuda:0 as bytes, 154 MB".
struct Batches {
  std::unique_ptr<BatchSource> source;
  std::string note;
};

/// Batches to train a model with so many outputs. With `device-data: auto` on a GPU, the images of a small set stay there.
Batches training_batches(const Recipe& recipe, const TrainingData& data, const PretrainedConfig& preprocessing,
                         std::int64_t classes, Placement placement);

/// All images of data.val in order, likewise.
Batches evaluation_batches(const Recipe& recipe, const TrainingData& data, const PretrainedConfig& preprocessing,
                           Placement placement);

}  // namespace vitrine
