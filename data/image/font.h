// Text in pictures: capitals, digits and some signs of 5 x 7 pixels.
//
//   draw_text(sheet, 10, 4, "rotate -27", {0, 0, 0});
#pragma once

#include <string_view>

#include "data/image/affine.h"
#include "data/image/image.h"

namespace vitrine {

inline constexpr int glyph_width = 6, glyph_height = 10;  // with the space to the next one

/// Writes one line whose upper left corner is at (top, left); small letters become capitals,
/// unknown signs a box. What lies outside the image is left out.
void draw_text(Image& image, int top, int left, std::string_view text, Color color);

}  // namespace vitrine
