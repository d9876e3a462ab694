// Rows of the layer table for single layers. Private to models/.
#pragma once

#include <string>

#include "models/family/summary.h"
#include "nn/image_layers.h"

namespace vitrine {

inline std::int64_t parameters_of(const Parameter& p) { return element_count(p.shape()); }

/// A linear layer applied to `count` vectors.
inline LayerSummary linear_row(const std::string& name, const Linear& layer, const Shape& leading) {
  Shape output = leading;
  output.push_back(layer.weight.shape()[0]);
  return {name, output, parameter_count(layer), element_count(leading) * parameters_of(layer.weight)};
}

/// A patch embedding that gives `count` patches.
inline LayerSummary patches_row(const PatchConvolution& proj, std::int64_t count) {
  return {
      "patch_embed.proj", {count, proj.weight.shape()[0]}, parameter_count(proj), count * parameters_of(proj.weight)};
}

/// Number of positions of a side that a window takes up: floor((side + 2 padding - kernel) /
/// stride) + 1.
inline std::int64_t side_after(std::int64_t side, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  return (side + 2 * padding - kernel) / stride + 1;
}

/// A convolution that gives a map of `side` x `side` positions.
inline LayerSummary conv_row(const std::string& name, const Conv2d& layer, std::int64_t side) {
  return {
      name, {layer.weight.shape()[0], side, side}, parameter_count(layer), side * side * parameters_of(layer.weight)};
}

/// A norm, or whatever else keeps the shape and multiplies no matrices.
template <Module M>
LayerSummary norm_row(const std::string& name, const M& layer, std::int64_t side) {
  return {name, {layer.weight.shape()[0], side, side}, parameter_count(layer), 0};
}

}  // namespace vitrine
