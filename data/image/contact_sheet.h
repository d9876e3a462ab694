// Contact sheet: small pictures in a grid, each with a few words below it.
//
//   write_png(contact_sheet({{{photo, {"original"}}, {rotated, {"rotate -27", "flip"}}}}), "sheet.png");
#pragma once

#include <string>
#include <vector>

#include "data/image/image.h"

namespace vitrine {

struct Tile {
  Image picture;
  std::vector<std::string> caption;  // phrases, put on one line where they fit
};

/// All tiles of a row side by side. Cells are squares with the longest side of all pictures, at
/// least 128 pixels; smaller pictures are enlarged by a whole factor where that fits. The heading,
/// if any, stands above all. An Error where there is no tile, an empty picture, or more than
/// max_image_pixels in all.
Image contact_sheet(const std::vector<std::vector<Tile>>& rows, const std::string& heading = "");

/// The phrases, joined by commas into lines of at most `width` characters; a longer phrase is
/// broken at its spaces, and a longer word into pieces.
std::vector<std::string> wrapped(const std::vector<std::string>& phrases, int width);

}  // namespace vitrine
