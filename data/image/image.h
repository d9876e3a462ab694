// Image: 8-bit pixels in memory. data/formats/formats.h reads them from files.
//
//   Image photo = read_image("dog.jpg");
//   photo.height, photo.width, photo.at(y, x)[0]
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vitrine {

/// Pixels in row-major (H, W, C) order, 0 to 255. Everything in data/ hands out C = 3 (red, green,
/// blue).
struct Image {
  int height = 0;
  int width = 0;
  int channels = 3;
  std::vector<std::uint8_t> pixels;

  Image() = default;
  Image(int rows, int columns, int channel_count = 3);  // black

  const std::uint8_t* at(int y, int x) const { return pixels.data() + position(y, x); }
  std::uint8_t* at(int y, int x) { return pixels.data() + position(y, x); }

 private:
  std::size_t position(int y, int x) const {
    return (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) *
           static_cast<std::size_t>(channels);
  }
};

}  // namespace vitrine
