// Image: 8-bit pixels in memory, and the JPEG and PNG files they come from.
//
//   Image photo = read_image("dog.jpg");   // always RGB, whatever the file holds
//   photo.height, photo.width, photo.at(y, x)[0]
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "data/image/file_bytes.h"

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

/// The decoders give RGB: grey is repeated, CMYK is converted, alpha is dropped (as Pillow's
/// convert("RGB") does). `name` stands for the file in messages. A damaged, truncated or lying file
/// is an Error that names it and the reason.
Image decode_jpeg(Bytes file, std::string_view name);
Image decode_png(Bytes file, std::string_view name);

/// JPEG or PNG, told apart by the first bytes.
Image decode_image(Bytes file, std::string_view name);
Image read_image(const std::filesystem::path& path);

/// A PNG file of an image with 1 (grey) or 3 channels.
std::vector<std::uint8_t> encode_png(const Image& image);
void write_png(const Image& image, const std::filesystem::path& path);

}  // namespace vitrine
