// PNG files through libpng: reading by its full interface, which takes the numbers as they are,
// where the simplified one would convert them by the gAMA chunk; writing by the simplified one.
//
// libpng reports errors by longjmp, which must not cross an object with a destructor. So every
// function that calls setjmp works on plain data only, and the C++ side turns the message it left
// into an Error.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <fstream>

#include "data/formats/formats.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

/// libpng's decoder, what it has still to read, where to jump on an error, and the text of that
/// error. Plain data.
struct PngDecoder {
  png_structp png;
  png_infop info;
  const std::uint8_t* next;
  std::size_t left;
  std::jmp_buf on_error;
  char message[256];
};

void keep_message_and_jump(png_structp png, png_const_charp message) {
  auto* decoder = static_cast<PngDecoder*>(png_get_error_ptr(png));
  std::strncpy(decoder->message, message, sizeof decoder->message - 1);
  std::longjmp(decoder->on_error, 1);
}

void ignore_warning(png_structp, png_const_charp) {}

void read_from_memory(png_structp png, png_bytep bytes, std::size_t count) {
  auto* decoder = static_cast<PngDecoder*>(png_get_io_ptr(png));
  if (count > decoder->left) png_error(png, "the file ends too early");
  std::memcpy(bytes, decoder->next, count);
  decoder->next += count;
  decoder->left -= count;
}

/// Reads all chunks before the pixels, and asks for RGB of 8 bits: palettes and grey become
/// colours, of 16 bits the upper 8 stay, alpha goes.
bool read_header(PngDecoder& decoder, const std::uint8_t* bytes, std::size_t size) {
  decoder.next = bytes;
  decoder.left = size;
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, keep_message_and_jump, ignore_warning);
  if (decoder.png == nullptr) return false;
  if (setjmp(decoder.on_error) != 0) return false;
  decoder.info = png_create_info_struct(decoder.png);
  png_set_read_fn(decoder.png, &decoder, read_from_memory);
  png_read_info(decoder.png, decoder.info);
  png_set_strip_16(decoder.png);
  png_set_expand(decoder.png);
  png_set_gray_to_rgb(decoder.png);
  png_set_strip_alpha(decoder.png);
  png_set_interlace_handling(decoder.png);
  png_read_update_info(decoder.png, decoder.info);
  return true;
}

/// Decodes all pixels into `rows`. What may stand behind them in the file is not looked at.
bool read_pixels(PngDecoder& decoder, png_bytepp rows) {
  if (setjmp(decoder.on_error) != 0) return false;
  png_read_image(decoder.png, rows);
  return true;
}

/// Frees what libpng holds, also when an Error passes by.
struct DestroyAtEnd {
  PngDecoder& decoder;
  ~DestroyAtEnd() { png_destroy_read_struct(&decoder.png, &decoder.info, nullptr); }
};

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

  PngDecoder decoder = {};
  DestroyAtEnd destroy{decoder};
  VT_CHECK(read_header(decoder, file.data(), file.size()), "{}: bad PNG header: {}", name, decoder.message);
  Image image(static_cast<int>(png_get_image_height(decoder.png, decoder.info)),
              static_cast<int>(png_get_image_width(decoder.png, decoder.info)));
  const std::size_t row_bytes = 3 * static_cast<std::size_t>(image.width);
  VT_CHECK(png_get_rowbytes(decoder.png, decoder.info) == row_bytes, "{}: bad PNG header: rows of {} bytes", name,
           png_get_rowbytes(decoder.png, decoder.info));
  std::vector<png_bytep> rows;
  for (int y = 0; y < image.height; ++y) rows.push_back(image.at(y, 0));
  VT_CHECK(read_pixels(decoder, rows.data()), "{}: bad PNG data: {}", name, decoder.message);
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
