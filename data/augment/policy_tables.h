// The published policies: how strong an operation is at a magnitude, and which operations belong together.
#pragma once

#include <vector>

#include "data/augment/policy.h"

namespace vitrine {

/// How a family of policies turns magnitudes into amounts.
enum class MagnitudeScale {
  timm,              // some operations grow weaker with the magnitude
  timm_increasing,   // "inc1": all grow stronger
  timm_original,     // timm, with the posterize of the AutoAugment paper
  timm_research,     // timm, with the posterize of Google's research code
  torchvision,       // RandAugment, AutoAugment
  torchvision_wide,  // TrivialAugmentWide
};

/// The entry of a policy: the operation with the strength that the scale gives it.
AugmentPolicy::Entry policy_entry(MagnitudeScale scale, ImageOp op, double probability, double magnitude);

/// The operations that RandAugment and TrivialAugment draw from.
const std::vector<ImageOp>& timm_operations();         // 15
const std::vector<ImageOp>& torchvision_operations();  // 14

enum class AutoAugmentTable { imagenet, efficientnet, cifar10 };

/// The 25 pairs of an AutoAugment policy.
std::vector<std::vector<AugmentPolicy::Entry>> auto_augment_pairs(AutoAugmentTable table, MagnitudeScale scale);

/// 3-Augment: solarize at 128, grey, or a blur of 0.1 to 2 pixels.
std::vector<std::vector<AugmentPolicy::Entry>> three_augment_choices();

}  // namespace vitrine
