// Mixing: mixup and CutMix blend each image of a batch with its partner, and the targets with them.
//
// Sources: Zhang et al., "mixup" (2018); Yun et al., "CutMix" (2019); the combination is that of
// timm and DeiT: one lambda per batch, CutMix instead of mixup with probability
// `switch_probability`, the partner of sample i is sample B - 1 - i, and label smoothing sits
// inside the targets.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/datasets/batch.h"
#include "tensor/philox.h"

namespace vitrine {

struct Mixing {
  enum class Mode { batch, pair, element };  // one lambda for all, for both of a pair, for each sample. timm: elem

  double mixup_alpha = 0.8;         // Beta(alpha, alpha); 0 = no mixup
  double cutmix_alpha = 1.0;        // 0 = no CutMix
  double probability = 1.0;         // that a batch (or pair, or element) is mixed at all
  double switch_probability = 0.5;  // that it is CutMix where both are on
  Mode mode = Mode::batch;
  std::int64_t off_epoch = 0;  // no mixing from this epoch on; smoothing stays. 0 = never off
  double smoothing = 0.1;      // eps: off = eps / K, on = 1 - eps + eps / K

  bool mixes(std::int64_t epoch) const {
    return (mixup_alpha > 0 || cutmix_alpha > 0) && probability > 0 && (off_epoch <= 0 || epoch < off_epoch);
  }
  /// Throws an Error that names the field whose value is out of range.
  void check() const;
};

/// "batch", "pair", "elem"; throws and lists these for anything else.
Mixing::Mode mixing_mode_from_name(std::string_view name);

/// Fills batch.targets from batch.labels, and mixes images and targets in place. B must be even
/// where the epoch mixes. Random numbers depend on (seed, batch.epoch, batch.number) alone.
void apply_mixing(const Mixing& mixing, std::int64_t num_classes, std::uint64_t seed, Batch& batch);

/// The values of a smoothed target: 1 - smoothing + smoothing / K at the label, smoothing / K
/// elsewhere.
struct TargetLevels {
  float on = 1, off = 0;
};
TargetLevels target_levels(std::int64_t num_classes, double smoothing);

/// (B, K) f32: levels.on at each label, levels.off elsewhere.
Tensor smooth_targets(const Tensor& labels, std::int64_t num_classes, double smoothing);

/// One draw: mixup with `lambda`, or CutMix with the box of which `lambda` is the share left
/// outside.
struct MixingDraw {
  double lambda = 1;
  bool cutmix = false;
  int top = 0, left = 0, bottom = 0, right = 0;  // rows top ... bottom - 1, columns left ... right - 1
};
MixingDraw draw_mixing(const Mixing& mixing, int height, int width, RandomSequence& random);

/// The draws of batch `number` with `count` images of (height, width), one for each sample, from
/// random numbers that depend on (seed, epoch, number) alone. Nothing where the epoch does not mix;
/// an odd count is an Error where it does.
std::vector<MixingDraw> draw_batch_mixing(const Mixing& mixing, std::uint64_t seed, std::int64_t epoch,
                                          std::int64_t number, std::int64_t count, int height, int width);

}  // namespace vitrine
