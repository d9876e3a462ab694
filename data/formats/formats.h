// Image files of every format that is read, told apart by their content: one row of a table for
// each.
//
//   Image photo = read_image("dog.jpg");   // always RGB, whatever the file holds and is called
//
// Pixels are those of Pillow's convert("RGB"), to the byte: grey is repeated, palettes are looked
// up, CMYK is converted, alpha is dropped, 16 bits are cut to the upper 8, of an animation the
// first picture is taken, and gamma and colour profiles change nothing. One difference is meant: of
// grey with 16 bits Pillow cuts all above 255 to white, here it is scaled as colours are.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/image/file_bytes.h"
#include "data/image/image.h"

namespace vitrine {

struct ImageFormat {
  const char* name;
  std::vector<std::string_view> signatures;  // how its files begin; '?' is any byte
  std::vector<std::string_view> extensions;  // which names its files have, in lower case
  Image (*decode)(Bytes file, std::string_view name);
};

const std::vector<ImageFormat>& image_formats();

/// ".jpg, .jpeg, .png, ...": the extensions of all formats, for messages.
std::string image_extensions();
/// Whether the name ends as one of a format does, in any letter case.
bool has_image_extension(const std::filesystem::path& path);

/// Decodes a file of any format in the table. `name` stands for the file in messages. A damaged,
/// truncated or lying file is an Error that names it and the reason; what is no image is named by
/// what it is, such as a Git LFS pointer.
Image decode_image(Bytes file, std::string_view name);
Image read_image(const std::filesystem::path& path);

// ---- The readers of the table, each in a file of its own ----

Image decode_jpeg(Bytes file, std::string_view name);    // libjpeg
Image decode_png(Bytes file, std::string_view name);     // libpng
Image decode_webp(Bytes file, std::string_view name);    // libwebp
Image decode_tiff(Bytes file, std::string_view name);    // libtiff
Image decode_gif(Bytes file, std::string_view name);     // giflib
Image decode_bmp(Bytes file, std::string_view name);     // our own
Image decode_netpbm(Bytes file, std::string_view name);  // our own: PBM, PGM and PPM

// ---- Writing ----

/// A PNG file of an image with 1 (grey) or 3 channels.
std::vector<std::uint8_t> encode_png(const Image& image);
void write_png(const Image& image, const std::filesystem::path& path);

}  // namespace vitrine
