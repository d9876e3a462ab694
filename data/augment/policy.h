// AugmentPolicy: which operations an image goes through, how often and how strongly: RandAugment,
// AutoAugment, TrivialAugment and 3-Augment, by the names that timm and torchvision have for them.
//
//   const AugmentPolicy policy = AugmentPolicy::parse("rand-m9-mstd0.5-inc1");
//   for (const AugmentStep& step : policy.draw(context, random)) image = apply(std::move(image), step);
//
// Sources: Cubuk et al., "RandAugment" (2020) and "AutoAugment" (2019); Mueller and Hutter,
// "TrivialAugment" (2021); Touvron et al., "DeiT III" (2022) for 3-Augment. Magnitudes are those of
// timm 1.0 and torchvision 0.29, which differ: timm counts to 10, torchvision to 30.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/augment/augment_step.h"
#include "data/augment/policy_tables.h"
#include "tensor/philox.h"

namespace vitrine {

class AugmentPolicy {
 public:
  /// No operation at all.
  AugmentPolicy() = default;

  /// The policy of that name, one of the table in data/augment/policy.cpp, with the keys that it
  /// takes:
  ///   -mN     magnitude, out of 10 (timm) [10] or 30 (torchvision) [9]
  ///   -nN     operations for each image [2]
  ///   -pX     probability of each of them [0.5]
  ///   -incN   1: every operation grows stronger with m [0]
  ///   -mstdX  standard deviation of m [0]; above 100: m uniform from 0
  ///   -mmaxN  bound of m [10]
  /// Empty: no operation. An Error lists accepted() for anything else.
  static AugmentPolicy parse(std::string_view name);

  /// All names with their keys, "rand[-mN]..., 3a (timm), ra[-mN][-nN] ... (torchvision)".
  static std::string accepted();

  bool empty() const { return choices_.empty(); }

  /// Whether colour jitter stays active beside the policy, as in 3-Augment; timm turns it off for
  /// the others.
  bool keeps_color_jitter() const { return keeps_color_jitter_; }

  /// What to do with one image, in this order.
  std::vector<AugmentStep> draw(const AugmentContext& context, RandomSequence& random) const;

 private:
  enum class Noise { none, normal, uniform, bins };  // bins: one of 0, 1, ..., m

  struct Family;  // a row of the table of names
  static const std::vector<Family>& families();
  static AugmentPolicy parse_rand(std::string_view name);
  static AugmentPolicy parse_auto(std::string_view name);
  static AugmentPolicy parse_torchvision(std::string_view name);
  static AugmentPolicy parse_torchvision_auto(std::string_view name);

  /// m with noise, within 0 to bound_, as a level.
  double draw_level(double m, RandomSequence& random) const;

  std::vector<std::vector<PolicyEntry>> choices_;  // of which `draws_` are taken, with replacement
  int draws_ = 1;
  double full_m_ = 10;  // that of level 1
  double bound_ = 10;   // of m with noise
  Noise noise_ = Noise::none;
  double std_ = 0;                 // of m
  bool like_torchvision_ = false;  // nearest pixel, black fill
  bool keeps_color_jitter_ = false;
};

}  // namespace vitrine
