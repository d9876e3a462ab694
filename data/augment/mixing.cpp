// Mixup, CutMix and label smoothing on a whole batch.
#include "data/augment/mixing.h"

#include <algorithm>
#include <cmath>

#include "data/image/pixel.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

/// The batch as raw memory: sample i is `values` floats from images + i * values, with `classes`
/// targets.
struct Rows {
  float* images;
  float* targets;
  std::int64_t count, height, width, classes;
  std::int64_t values() const { return 3 * height * width; }
};

/// own = share * own + (1 - share) * other
void blend(float* own, const float* other, std::int64_t count, double share) {
  const ShareBlend blend_values(share);
  for (std::int64_t i = 0; i < count; ++i) own[i] = blend_values(own[i], other[i]);
}

/// Mixes `other`, one image and its targets, into sample i.
void mix_sample(const Rows& rows, std::int64_t i, const MixingDraw& draw, const float* other_image,
                const float* other_target) {
  float* image = rows.images + i * rows.values();
  blend(rows.targets + i * rows.classes, other_target, rows.classes, draw.lambda);
  if (!draw.cutmix) return blend(image, other_image, rows.values(), draw.lambda);
  for (int c = 0; c < 3; ++c) {
    for (int y = draw.top; y < draw.bottom; ++y) {
      const std::int64_t line = (c * rows.height + y) * rows.width;
      std::copy(other_image + line + draw.left, other_image + line + draw.right, image + line + draw.left);
    }
  }
}

/// Mixes samples i and j = B - 1 - i with each other, as they were before.
void mix_pair(const Rows& rows, std::int64_t i, const MixingDraw& draw_i, const MixingDraw& draw_j) {
  const std::int64_t j = rows.count - 1 - i;
  float *image_i = rows.images + i * rows.values(), *image_j = rows.images + j * rows.values();
  float *target_i = rows.targets + i * rows.classes, *target_j = rows.targets + j * rows.classes;
  const std::vector<float> image(image_i, image_i + rows.values()), target(target_i, target_i + rows.classes);
  mix_sample(rows, i, draw_i, image_j, target_j);
  mix_sample(rows, j, draw_j, image.data(), target.data());
}

}  // namespace

Mixing::Mode mixing_mode_from_name(std::string_view name) {
  if (name == "batch") return Mixing::Mode::batch;
  if (name == "pair") return Mixing::Mode::pair;
  if (name == "elem") return Mixing::Mode::element;
  throw Error(fmt::format("mixing: mode \"{}\", expected batch, pair or elem", name));
}

void Mixing::check() const {
  VT_CHECK(mixup_alpha >= 0 && std::isfinite(mixup_alpha), "mixing: mixup is {}, expected 0 or more", mixup_alpha);
  VT_CHECK(cutmix_alpha >= 0 && std::isfinite(cutmix_alpha), "mixing: cutmix is {}, expected 0 or more", cutmix_alpha);
  VT_CHECK(probability >= 0 && probability <= 1, "mixing: probability is {}, expected 0 to 1", probability);
  VT_CHECK(switch_probability >= 0 && switch_probability <= 1, "mixing: switch probability is {}, expected 0 to 1",
           switch_probability);
  VT_CHECK(smoothing >= 0 && smoothing < 1, "mixing: smoothing is {}, expected 0 up to below 1", smoothing);
}

TargetLevels target_levels(std::int64_t num_classes, double smoothing) {
  const double off = smoothing / static_cast<double>(num_classes);
  return {.on = static_cast<float>(1 - smoothing + off), .off = static_cast<float>(off)};
}

Tensor smooth_targets(const Tensor& labels, std::int64_t num_classes, double smoothing) {
  VT_CHECK(labels.dim() == 1 && labels.dtype() == DType::i64, "smooth_targets: labels are {} {}, expected i64 (B)",
           name_of(labels.dtype()), to_string(labels.shape()));
  const std::vector<std::int64_t> label = labels.to_vector<std::int64_t>();
  const TargetLevels levels = target_levels(num_classes, smoothing);
  Tensor targets = full({labels.size(0), num_classes}, levels.off);
  float* row = targets.data<float>();
  for (std::size_t i = 0; i < label.size(); ++i, row += num_classes) {
    VT_CHECK(label[i] >= 0 && label[i] < num_classes, "smooth_targets: label {} of sample {}, expected 0 to {}",
             label[i], i, num_classes - 1);
    row[label[i]] = levels.on;
  }
  return targets;
}

MixingDraw draw_mixing(const Mixing& mixing, int height, int width, RandomSequence& random) {
  MixingDraw draw;
  if (!random.chance(mixing.probability)) return draw;
  const bool both = mixing.mixup_alpha > 0 && mixing.cutmix_alpha > 0;
  draw.cutmix = both ? random.chance(mixing.switch_probability) : mixing.cutmix_alpha > 0;
  const double alpha = draw.cutmix ? mixing.cutmix_alpha : mixing.mixup_alpha;
  draw.lambda = alpha > 0 ? random.beta(alpha, alpha) : 1;
  if (!draw.cutmix) return draw;

  const double side = std::sqrt(1 - draw.lambda);
  const int box_height = static_cast<int>(height * side), box_width = static_cast<int>(width * side);
  const int center_y = static_cast<int>(random.integer(height)), center_x = static_cast<int>(random.integer(width));
  draw.top = std::max(0, center_y - box_height / 2);
  draw.left = std::max(0, center_x - box_width / 2);
  draw.bottom = std::min(height, center_y + (box_height + 1) / 2);
  draw.right = std::min(width, center_x + (box_width + 1) / 2);
  const double inside = static_cast<double>(draw.bottom - draw.top) * (draw.right - draw.left);
  draw.lambda = 1 - inside / (static_cast<double>(height) * width);  // the share outside the clipped box
  return draw;
}

std::vector<MixingDraw> draw_batch_mixing(const Mixing& mixing, std::uint64_t seed, std::int64_t epoch,
                                          std::int64_t number, std::int64_t count, int height, int width) {
  if (!mixing.mixes(epoch)) return {};
  VT_CHECK(count % 2 == 0, "mixing: batch {} has {} samples, expected an even number: each is mixed with a partner",
           number, count);
  const std::uint64_t stream = static_cast<std::uint64_t>(epoch) << 32 | static_cast<std::uint64_t>(number);
  RandomSequence random(seed, Purpose::mixing, stream);
  std::vector<MixingDraw> draws(static_cast<std::size_t>(count));
  MixingDraw draw = draw_mixing(mixing, height, width, random);
  for (std::size_t i = 0; i < draws.size() / 2; ++i) {
    if (mixing.mode != Mixing::Mode::batch && i > 0) draw = draw_mixing(mixing, height, width, random);
    const bool own = mixing.mode == Mixing::Mode::element;
    draws[i] = draw;
    draws[draws.size() - 1 - i] = own ? draw_mixing(mixing, height, width, random) : draw;
  }
  return draws;
}

void apply_mixing(const Mixing& mixing, std::int64_t num_classes, std::uint64_t seed, Batch& batch) {
  batch.targets = smooth_targets(batch.labels, num_classes, mixing.smoothing);
  if (!mixing.mixes(batch.epoch)) return;
  VT_CHECK(batch.images.dim() == 4 && batch.images.size(1) == 3 && batch.images.is_contiguous(),
           "mixing: images have shape {}, expected (B, 3, H, W) row by row", to_string(batch.images.shape()));
  const std::int64_t count = batch.images.size(0);
  const Rows rows{batch.images.data<float>(), batch.targets.data<float>(), count,
                  batch.images.size(2),       batch.images.size(3),        num_classes};
  const auto draws = draw_batch_mixing(mixing, seed, batch.epoch, batch.number, count, static_cast<int>(rows.height),
                                       static_cast<int>(rows.width));
  for (std::int64_t i = 0; i < count / 2; ++i) {
    mix_pair(rows, i, draws[static_cast<std::size_t>(i)], draws[static_cast<std::size_t>(count - 1 - i)]);
  }
}

}  // namespace vitrine
