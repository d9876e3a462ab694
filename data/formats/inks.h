// Four inks on white paper as red, green and blue.
#pragma once

#include <cstdint>

namespace vitrine {

/// Cyan, magenta, yellow and black, 0 = none: red = (255 - cyan) (255 - black) / 255, rounded as
/// Pillow does it, and so on. No colour profile is used.
inline void rgb_from_inks(int cyan, int magenta, int yellow, int black, std::uint8_t* rgb) {
  const auto left = [black](int ink) { return static_cast<std::uint8_t>(((255 - ink) * (255 - black) + 127) / 255); };
  rgb[0] = left(cyan);
  rgb[1] = left(magenta);
  rgb[2] = left(yellow);
}

}  // namespace vitrine
