// Affine maps of an 8-bit image: shears, shifts and rotations, equal to Pillow's Image.transform
// and Image.rotate.
//
//   image = transform(image, rotation(27, image.height, image.width), Resampling::bicubic, {124, 116, 104});
//
// Source: Pillow's documentation of Image.transform(AFFINE); bilinear and bicubic look at the 2 x 2
// and 4 x 4 pixels around a point, without antialiasing, and cut to a byte towards zero. The cubic
// is that of Keys (1981) with a = -1.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "data/image/image.h"

namespace vitrine {

enum class Resampling { nearest, bilinear, bicubic };
std::string_view name_of(Resampling resampling);

using Color = std::array<std::uint8_t, 3>;  // red, green, blue

/// From a point of the result to the point of the source that is shown there: x' = a x + b y + c,
/// y' = d x + e y + f, in pixels from the upper left corner; the centre of a pixel is at + 0.5.
struct Affine {
  double a = 1, b = 0, c = 0;
  double d = 0, e = 1, f = 0;
};

Affine shear_x(double factor);
Affine shear_y(double factor);
Affine translate_x(double pixels);  // moves the picture to the left
Affine translate_y(double pixels);  // moves it upwards

/// Counter-clockwise about the middle, as Image.rotate does it.
Affine rotation(double degrees, int height, int width);

/// The image under the map, in its own size; `fill` where the map leads outside. Bit for bit
/// Pillow's, except that nearest coordinates have 16 fractional bits in every map, where Pillow
/// adds doubles up if b = d = 0.
Image transform(const Image& image, const Affine& map, Resampling resampling, Color fill);

}  // namespace vitrine
