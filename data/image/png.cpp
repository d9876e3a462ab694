// PNG files through libpng's simplified interface, which reports errors by return value.
#include <png.h>

#include <cstring>
#include <fstream>

#include "data/image/file_bytes.h"
#include "data/image/image.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

struct FreeAtEnd {
  png_image& png;
  ~FreeAtEnd() { png_image_free(&png); }
};

std::uint32_t big_endian(const std::uint8_t* bytes) {
  return static_cast<std::uint32_t>(bytes[0]) << 24 | static_cast<std::uint32_t>(bytes[1]) << 16 |
         static_cast<std::uint32_t>(bytes[2]) << 8 | bytes[3];
}

}  // namespace

Image decode_png(Bytes file, std::string_view name) {
  // Signature (8), length and name of the first chunk (8), then width, height, bit depth and colour
  // type (10).
  VT_CHECK(file.size() >= 33 && std::memcmp(file.data() + 12, "IHDR", 4) == 0,
           "{}: bad PNG header: no IHDR chunk at offset 12 ({} bytes in all)", name, file.size());
  // Deflate shrinks 1032 times at the most, and a pixel takes a bit or more.
  check_image_claim(name, big_endian(file.data() + 20), big_endian(file.data() + 16), file.size(), 8 * 1032);

  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  FreeAtEnd free_png{png};
  VT_CHECK(png_image_begin_read_from_memory(&png, file.data(), file.size()) != 0, "{}: bad PNG header: {}", name,
           png.message);
  png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  png.format = PNG_FORMAT_RGBA;  // with alpha, because without it libpng wants a background to blend with
  Image with_alpha(static_cast<int>(png.height), static_cast<int>(png.width), 4);
  VT_CHECK(png_image_finish_read(&png, nullptr, with_alpha.pixels.data(), 0, nullptr) != 0, "{}: bad PNG data: {}",
           name, png.message);

  Image image(with_alpha.height, with_alpha.width);
  const std::size_t count = image.pixels.size() / 3;
  for (std::size_t i = 0; i < count; ++i) std::memcpy(&image.pixels[3 * i], &with_alpha.pixels[4 * i], 3);
  return image;
}

std::vector<std::uint8_t> encode_png(const Image& image) {
  VT_CHECK(image.channels == 1 || image.channels == 3, "encode_png: the image has {} channels, expected 1 or 3",
           image.channels);
  VT_CHECK(image.height > 0 && image.width > 0, "encode_png: the image has {} x {} pixels, expected at least one",
           image.width, image.height);
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.height = static_cast<png_uint_32>(image.height);
  png.width = static_cast<png_uint_32>(image.width);
  png.format = image.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  FreeAtEnd free_png{png};
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::vector<std::uint8_t> file(size);
  VT_CHECK(png_image_write_to_memory(&png, file.data(), &size, 0, image.pixels.data(), 0, nullptr) != 0,
           "encode_png: {}", png.message);
  file.resize(size);
  return file;
}

void write_png(const Image& image, const std::filesystem::path& path) {
  const std::vector<std::uint8_t> file = encode_png(image);
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
  stream.close();
  VT_CHECK(stream.good(), "{}: could not be written ({} bytes)", path.string(), file.size());
}

}  // namespace vitrine
