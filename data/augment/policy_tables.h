// The published policies: what magnitude an operation has at a level, and which operations belong
// together.
#pragma once

#include <vector>

#include "data/augment/augment_step.h"
#include "tensor/philox.h"

namespace vitrine {

/// What the magnitude of an operation depends on besides the policy.
struct AugmentContext {
  int height = 0, width = 0;                    // of the image
  Resampling resampling = Resampling::bicubic;  // of timm's policies; torchvision's take the nearest pixel
  bool random_resampling = false;               // instead: bilinear or bicubic, drawn for each operation
  Color fill = {128, 128, 128};                 // of timm's policies; torchvision's fill with black
};

/// The magnitude of an operation at a level: 0 to 1, and above 1 where mmax allows it.
using LevelFunction = double (*)(double level, const AugmentContext& context, RandomSequence& random);

/// One operation of a policy.
struct PolicyEntry {
  ImageOp op = "identity";
  LevelFunction magnitude_at = nullptr;  // null where the operation takes no magnitude
  double probability = 1;
  double m = 0;  // the level, counted as the policy's name counts it: out of 10, of 9 or of 30
};

/// How a family of policies turns levels into magnitudes.
enum class MagnitudeScale {
  timm,              // some operations grow weaker with the level
  timm_increasing,   // "inc1": all grow stronger
  timm_original,     // timm, with the posterize of the AutoAugment paper
  timm_research,     // timm, with the posterize of Google's research code
  torchvision,       // RandAugment, AutoAugment
  torchvision_wide,  // TrivialAugmentWide
};

/// The entry of a policy: the operation with the magnitudes that the scale gives it. An Error where
/// the operation takes a magnitude and the scale has none for it.
PolicyEntry policy_entry(MagnitudeScale scale, ImageOp op, double probability, double m);

/// The operations that RandAugment and TrivialAugment draw from.
const std::vector<ImageOp>& timm_operations();         // 15
const std::vector<ImageOp>& torchvision_operations();  // 14

enum class AutoAugmentTable { imagenet, efficientnet, cifar10 };

/// The 25 pairs of an AutoAugment policy.
std::vector<std::vector<PolicyEntry>> auto_augment_pairs(AutoAugmentTable table, MagnitudeScale scale);

/// 3-Augment: solarize at 128, grey, or a blur of 0.1 to 2 pixels.
std::vector<std::vector<PolicyEntry>> three_augment_choices();

}  // namespace vitrine
