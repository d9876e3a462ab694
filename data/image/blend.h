// Blend and luma: the two formulas that Pillow's enhancements are made of, rounded as Pillow rounds them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace vitrine {

/// first + factor * (second - first), cut to a byte towards zero: Pillow's Image.blend, with `second` the image itself.
class Blend {
 public:
  /// The products are kept in a table so that each is rounded by itself, as in Pillow, on every processor: fused with
  /// the sum, as compilers like to do, they give other bytes here and there.
  explicit Blend(double factor) {
    for (int i = 0; i < 511; ++i)
      product_[static_cast<std::size_t>(i)] = static_cast<float>(factor) * static_cast<float>(i - 255);
  }
  std::uint8_t operator()(int first, int second) const {
    const float value = static_cast<float>(first) + product_[static_cast<std::size_t>(second - first + 255)];
    return static_cast<std::uint8_t>(std::clamp(value, 0.0f, 255.0f));
  }

 private:
  std::array<float, 511> product_;  // factor * -255 ... factor * 255
};

/// ITU-R 601 luma, in 16-bit fixed point and rounded: Pillow's convert("L").
inline int luma(const std::uint8_t* rgb) { return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16; }

}  // namespace vitrine
