// AugmentStep: one operation of an augmentation with its drawn magnitude, so that drawing and
// applying are two things.
//
//   AugmentStep step{"rotate", -27, Resampling::bicubic, {124, 116, 104}};
//   image = apply(std::move(image), step);
//   to_string(step);                                // "rotate -27"
#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "data/image/affine.h"
#include "data/image/image.h"
#include "tensor/philox.h"

namespace vitrine {

struct AugmentStep;

/// An operation on an image, by its name. The table in data/augment/augment_step.cpp has one row
/// for each.
class ImageOp {
 public:
  /// Throws an Error that lists all names for any other.
  explicit ImageOp(std::string_view name);
  ImageOp(const char* name) : ImageOp(std::string_view(name)) {}  // NOLINT: conversion is the point
  static std::vector<ImageOp> all();

  std::string_view name() const;
  /// What AugmentStep::magnitude counts, such as "degrees, counter-clockwise"; empty: the operation
  /// takes no magnitude.
  std::string_view unit() const;
  auto operator<=>(const ImageOp&) const = default;

 private:
  friend Image apply(Image image, const AugmentStep& step);
  std::size_t row_ = 0;  // of the table
};

struct AugmentStep {
  ImageOp op = "identity";
  double magnitude = 0;                         // in ImageOp::unit
  Resampling resampling = Resampling::nearest;  // of shears, shifts and rotations, as is the fill
  Color fill = {0, 0, 0};
};

Image apply(Image image, const AugmentStep& step);

/// "rotate -27", "equalize".
std::string to_string(const AugmentStep& step);

/// Each strength s draws a factor from [max(0, 1 - s), 1 + s]; the three changes come in random
/// order (torchvision's ColorJitter on Pillow images). 0 = unchanged.
struct ColorJitter {
  double brightness = 0, contrast = 0, saturation = 0;
  bool active() const { return brightness > 0 || contrast > 0 || saturation > 0; }
};

/// The changes of brightness, contrast and saturation in their random order, as steps.
std::vector<AugmentStep> draw_color_jitter(const ColorJitter& jitter, RandomSequence& random);
Image apply_color_jitter(Image image, const ColorJitter& jitter, RandomSequence& random);

}  // namespace vitrine
