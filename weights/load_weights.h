// Weights of any layout into a model: renamed, for another image size or number of classes adapted
// where that is wanted, and every difference reported under the names of the file.
//
//   const WeightLoad load = load_weights(model, read_weights("vit_b_16.safetensors"));            // all must fit
//   load_weight_file(model, "swin_t.pth", {.strict = false});                                    // sizes are adapted
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/registry.h"
#include "weights/names/weight_layouts.h"
#include "weights/resize_positions.h"

namespace vitrine {

struct WeightLoadOptions {
  /// Strict: every name and shape must fit, else nothing is changed; layouts are converted, sizes
  /// never. Otherwise position embeddings, bias tables and patch embeddings are resized, a head for
  /// another number of classes is left out, and so are the tokens that only one of a distilled and
  /// a plain model has; what else does not fit stays as it was.
  bool strict = true;
  PositionFilter position_filter = PositionFilter::bicubic;
};

struct WeightLoad {
  LoadReport report;               // under the names of the file
  std::vector<std::string> notes;  // what was converted, resized and left out; empty where all fitted as it stood
  WeightLayout layout = WeightLayout::timm;  // whose names the file has; see TranslatedWeights::layout
};

/// Error, beginning with `name`, where the tensor holds NaN or inf: no weights do, so training went
/// wrong or the file is damaged.
void check_finite(const Tensor& tensor, const std::string& name);

/// Copies `weights`, of any layout, into tensors with our names. Error where strict and something
/// does not fit, where nothing does, and where what is copied holds NaN, inf or, for numbers with a
/// fraction, integers.
WeightLoad load_weights(const StateDict& target, const StateDict& weights, const WeightLoadOptions& options = {});
WeightLoad load_weights(Model& model, const StateDict& weights, const WeightLoadOptions& options = {});
/// The same from a file of any format, or a folder with one; errors name it, and the notes also
/// tell what its reader did.
WeightLoad load_weight_file(Model& model, const std::filesystem::path& path, const WeightLoadOptions& options = {});
/// The same for a model of a known type.
template <Module M>
WeightLoad load_weights(M& model, const StateDict& weights, const WeightLoadOptions& options = {}) {
  return load_weights(state_dict(model), weights, options);
}

}  // namespace vitrine
