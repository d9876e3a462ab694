// AugmentStep: one operation of an augmentation with its drawn strength, so that drawing and applying are two things.
//
//   AugmentStep step{ImageOp::rotate, -27, Resampling::bicubic, {124, 116, 104}};
//   image = apply(std::move(image), step);
//   to_string(step);                                // "rotate -27"
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/image/affine.h"
#include "data/image/image.h"
#include "tensor/philox.h"

namespace vitrine {

/// What can be done to an image, and the unit of AugmentStep::amount.
enum class ImageOp {
  identity,
  auto_contrast,
  equalize,
  invert,
  grayscale,     // these five: no amount
  posterize,     // bits to keep, 0 to 8
  solarize,      // threshold, 0 to 256
  solarize_add,  // what is added, 0 to 255
  color,
  contrast,
  brightness,
  sharpness,  // these four: factor, 1 = unchanged
  blur,       // standard deviation in pixels
  shear_x,
  shear_y,  // both: pixels per pixel
  translate_x,
  translate_y,  // both: pixels, to the left or upwards
  rotate        // degrees, counter-clockwise
};
std::string_view name_of(ImageOp op);

struct AugmentStep {
  ImageOp op = ImageOp::identity;
  double amount = 0;
  Resampling resampling = Resampling::nearest;  // of shears, shifts and rotations, as is the fill
  Color fill = {0, 0, 0};
};

Image apply(Image image, const AugmentStep& step);

/// "rotate -27", "equalize".
std::string to_string(const AugmentStep& step);

struct ColorJitter;

/// The changes of brightness, contrast and saturation in a random order, as steps.
std::vector<AugmentStep> draw_color_jitter(const ColorJitter& jitter, RandomSequence& random);

}  // namespace vitrine
