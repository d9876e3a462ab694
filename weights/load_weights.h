// Weights of any layout into a model: renamed, for another image size or number of classes adapted
// where that is wanted, and every difference reported under the names of the file.
//
//   const WeightLoad load = load_weights(model, read_weights("vit_b_16.safetensors"));            // all must fit
//   load_weights(model, read_weights("swin_t.safetensors"), {.strict = false});                  // sizes are adapted
#pragma once

#include <string>
#include <vector>

#include "models/registry.h"
#include "weights/names/weight_layouts.h"
#include "weights/resize_positions.h"

namespace vitrine {

struct WeightLoadOptions {
  /// Strict: every name and shape must fit, else nothing is changed; layouts are converted, sizes
  /// never. Otherwise position embeddings, bias tables and patch embeddings are resized, a head for
  /// another number of classes is left out, and what else does not fit stays as it was.
  bool strict = true;
  PositionFilter position_filter = PositionFilter::bicubic;
};

struct WeightLoad {
  LoadReport report;               // under the names of the file
  std::vector<std::string> notes;  // what was converted, resized and left out; empty where all fitted as it stood
  WeightLayout layout = WeightLayout::timm;  // whose names the file has; see TranslatedWeights::layout
};

/// Copies `weights`, of any layout, into tensors with our names. Error where strict and something
/// does not fit, and where nothing does.
WeightLoad load_weights(const StateDict& target, const StateDict& weights, const WeightLoadOptions& options = {});
WeightLoad load_weights(Model& model, const StateDict& weights, const WeightLoadOptions& options = {});
/// The same for a model of a known type.
template <Module M>
WeightLoad load_weights(M& model, const StateDict& weights, const WeightLoadOptions& options = {}) {
  return load_weights(state_dict(model), weights, options);
}

}  // namespace vitrine
