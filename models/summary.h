// The layer table of a model: shapes, parameters and multiply-adds, computed from the shapes alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/shape.h"

namespace vitrine {

struct ConvolutionalVisionTransformer;
struct DistilledVisionTransformer;
struct HybridVisionTransformer;
struct RegNet;
struct ResNet;
struct SwinTransformer;
struct VisionTransformer;

/// One row of the table.
struct LayerSummary {
  std::string name;  // as in the state dict, without ".weight"
  Shape output;      // for one image
  std::int64_t parameters = 0;
  /// Multiply-adds of matrix products for one image; others (norms, softmax, GELU) are not counted.
  std::int64_t macs = 0;
};

struct ModelSummary {
  std::string name;
  std::vector<LayerSummary> layers;

  std::int64_t parameters() const;
  std::int64_t macs() const;
};

/// The layers of a ViT in the order in which they are used, with attention's two products (q k^T and the weighted sum of v).
ModelSummary summarize(const VisionTransformer& model);

ModelSummary summarize(const DistilledVisionTransformer& model);
ModelSummary summarize(const SwinTransformer& model);
ModelSummary summarize(const HybridVisionTransformer& model);
ModelSummary summarize(const ResNet& model);  // for images of config.image pixels
ModelSummary summarize(const RegNet& model);
ModelSummary summarize(const ConvolutionalVisionTransformer& model);  // for images of config.image pixels

/// The table for a terminal: a header, a row for each layer, the totals.
std::string to_table(const ModelSummary& summary);

/// {"name": ..., "parameters": ..., "macs": ..., "layers": [{"name", "output_shape", "parameters", "macs"}, ...]}
std::string to_json(const ModelSummary& summary);

}  // namespace vitrine
