// Resizing and cropping of 8-bit images, equal to Pillow's antialiased filters.
//
// Source: the resampling described in Pillow's documentation ("Filters", resize with reducing_gap =
// None): a horizontal and a vertical pass, each a weighted sum of the pixels under the filter, with
// 22-bit fixed-point weights and rounding to 8 bits after each pass. The filter is stretched by the
// reduction, which is what "antialiased" means.
//
// The order of the passes shows in the rounding. It is that of Pillow 13 (pull request 9549):
// vertical first where the height shrinks by more than twice as many pixels as the width, else
// horizontal first, as Pillow did it always up to version 12.
#pragma once

#include <string_view>

#include "data/image/image.h"

namespace vitrine {

enum class Interpolation { bilinear, bicubic };

/// "bilinear", "bicubic"; throws and lists these for anything else.
Interpolation interpolation_from_name(std::string_view name);

/// A rectangle of pixels.
struct Box {
  int top = 0, left = 0, height = 0, width = 0;
};

/// The pixels inside `box`, which must lie inside the image and hold at least one pixel, resized to
/// (height, width). Pixels outside the box have no influence.
Image resized_crop(const Image& image, Box box, int height, int width, Interpolation interpolation);
Image resize(const Image& image, int height, int width, Interpolation interpolation);

/// The shorter side becomes `size` and the longer int(size * longer / shorter), as torchvision's
/// Resize(size).
Image resize_shorter_side(const Image& image, int size, Interpolation interpolation);

/// The pixels inside `box`, which must lie inside the image.
Image crop(const Image& image, Box box);

}  // namespace vitrine
