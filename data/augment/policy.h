// AugmentPolicy: which operations an image goes through, how often and how strongly: RandAugment, AutoAugment,
// TrivialAugment and 3-Augment, by the names that timm and torchvision have for them.
//
//   const AugmentPolicy policy = AugmentPolicy::parse("rand-m9-mstd0.5-inc1");
//   for (const AugmentStep& step : policy.draw(surroundings, random)) image = apply(std::move(image), step);
//
// Sources: Cubuk et al., "RandAugment" (2020) and "AutoAugment" (2019); Mueller and Hutter, "TrivialAugment" (2021);
// Touvron et al., "DeiT III" (2022) for 3-Augment. Magnitudes are those of timm 1.0 and torchvision 0.29, which
// differ: timm counts to 10, torchvision to 30.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/augment/augment_step.h"
#include "tensor/philox.h"

namespace vitrine {

/// What the strength of an operation depends on besides the policy.
struct AugmentSurroundings {
  int height = 0, width = 0;                    // of the image
  Resampling resampling = Resampling::bicubic;  // of timm's policies; torchvision's take the nearest pixel
  bool random_resampling = false;               // instead: bilinear or bicubic, drawn for each operation
  Color fill = {128, 128, 128};                 // of timm's policies; torchvision's fill with black
};

class AugmentPolicy {
 public:
  /// No operation at all.
  AugmentPolicy() = default;

  /// timm's `rand` (RandAugment: n operations out of 15, each with probability p), with any of
  ///   -mN magnitude out of 10 [10]    -nN operations [2]    -pX probability [0.5]    -incN 1: stronger with m [0]
  ///   -mstdX deviation of m [0]; above 100: m uniform from 0    -mmaxN bound of m [10]
  /// timm's AutoAugment policies `original`, `originalr` (ImageNet), `v0`, `v0r` (EfficientNet), and `3a`
  /// (3-Augment), each with -mstdX; torchvision's `ra` (RandAugment, -mN out of 30 [9], -nN [2]), `ta_wide`,
  /// `autoaugment` (ImageNet) and `autoaugment-cifar10`. Empty: no operation. An Error lists these for anything else.
  static AugmentPolicy parse(std::string_view name);

  bool empty() const { return choices_.empty(); }

  /// Whether colour jitter stays active beside the policy, as in 3-Augment; timm turns it off for the others.
  bool keeps_color_jitter() const { return keeps_color_jitter_; }

  /// What to do with one image, in this order.
  std::vector<AugmentStep> draw(const AugmentSurroundings& surroundings, RandomSequence& random) const;

  /// The amount that an operation takes, from its share of the largest magnitude: 0 to 1, and above where mmax allows
  /// it. Null for operations without one.
  using Strength = double (*)(double share, const AugmentSurroundings& surroundings, RandomSequence& random);

  struct Entry {
    ImageOp op = ImageOp::identity;
    Strength strength = nullptr;
    double probability = 1;
    double magnitude = 0;
  };

 private:
  enum class Noise { none, normal, uniform, bins };  // bins: one of 0, 1, ..., the magnitude

  double draw_magnitude(double magnitude, RandomSequence& random) const;

  static AugmentPolicy parse_rand(std::string_view name);
  static AugmentPolicy parse_auto(std::string_view name);
  static AugmentPolicy parse_torchvision(std::string_view name);

  std::vector<std::vector<Entry>> choices_;  // of which `draws_` are taken, with replacement
  int draws_ = 1;
  double full_magnitude_ = 10;  // that of share 1
  double bound_ = 10;           // of a magnitude with noise
  Noise noise_ = Noise::none;
  double deviation_ = 0;
  bool like_torchvision_ = false;  // nearest pixel, black fill
  bool keeps_color_jitter_ = false;
};

}  // namespace vitrine
