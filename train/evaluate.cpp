// The evaluation loop, and the rank of a label among the logits.
#include "train/evaluate.h"

#include <cmath>

#include "ops/ops.h"

namespace vitrine {

std::vector<std::int64_t> label_ranks(const Tensor& logits, const Tensor& labels) {
  const std::int64_t classes = logits.size(1);
  const std::vector<float> values = logits.to_vector<float>();  // (B, K)
  std::vector<std::int64_t> ranks;
  for (const std::int64_t label : labels.to_vector<std::int64_t>()) {
    const float* row = values.data() + static_cast<std::int64_t>(ranks.size()) * classes;
    std::int64_t before = 0;
    bool has_nan = false;
    for (std::int64_t k = 0; k < classes; ++k) {
      has_nan |= std::isnan(row[k]);
      before += row[k] > row[label] || (row[k] == row[label] && k < label);
    }
    ranks.push_back(has_nan ? classes : before);
  }
  return ranks;
}

Evaluation evaluate(const Model& model, BatchSource& batches, Placement placement,
                    const std::function<bool(std::int64_t done, std::int64_t total)>& progress) {
  Evaluation result;
  double loss_sum = 0;
  std::int64_t first = 0, fifth = 0;
  for (const Batch& batch : batches.epoch(0)) {
    const Tensor logits = cast_data(to_device(model(placement.place(batch.images)), cpu), DType::f32);
    const auto count = batch.size();
    loss_sum += cross_entropy(logits, batch.labels).item() * static_cast<double>(count);
    for (const std::int64_t rank : label_ranks(logits, batch.labels)) {
      first += rank < 1;
      fifth += rank < std::min<std::int64_t>(5, logits.size(1));
    }
    result.images += count;
    if (progress && !progress(batch.number + 1, batches.batches_per_epoch())) break;
  }
  VT_CHECK(result.images > 0, "evaluate: the dataset has no image");
  const auto images = static_cast<double>(result.images);
  result.loss = loss_sum / images;
  result.top1 = 100.0 * static_cast<double>(first) / images;
  result.top5 = 100.0 * static_cast<double>(fifth) / images;
  return result;
}

}  // namespace vitrine
