// The table of image formats, and what a file is that none of them reads.
#include "data/formats/formats.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "tensor/error.h"

namespace vitrine {
namespace {

using namespace std::string_view_literals;  // ""sv keeps the zeros inside

bool begins_with(Bytes file, std::string_view signature) {
  if (file.size() < signature.size()) return false;
  for (std::size_t i = 0; i < signature.size(); ++i) {
    if (signature[i] != '?' && file[i] != static_cast<std::uint8_t>(signature[i])) return false;
  }
  return true;
}

std::string in_lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// What lies under the names of images now and then, and what to do about it.
struct Stranger {
  std::string_view signature;
  const char* is;  // "{file}: is ..."
};
constexpr Stranger strangers[] = {
    {"version https://git-lfs", "a Git LFS pointer in place of the image; fetch it with git lfs pull"},
    {"<!doctype html", "an HTML page, probably a failed download; fetch the image again"},
    {"<html", "an HTML page, probably a failed download; fetch the image again"},
    {"<?xml", "an XML file, perhaps an SVG drawing; convert it to PNG"},
    {"<svg", "an SVG drawing; convert it to PNG"},
    {"\0\5\x16\7"sv, "an AppleDouble file, which macOS puts beside the image; delete it"},
    {"%pdf", "a PDF document; convert its pictures to PNG"},
    {"pk\3\4", "a zip archive; unpack it"},
    {"\x1f\x8b", "compressed by gzip; unpack it"},
    {"????ftypavif", "an AVIF image, which is not read; convert it to PNG"},
    {"????ftyphei", "a HEIC image, which is not read; convert it to JPEG"},
    {"????ftypmif1", "a HEIC or AVIF image, which is not read; convert it to JPEG"},
    {"????jp  ", "a JPEG 2000 image, which is not read; convert it to PNG"},
    {"8bps", "a Photoshop file, which is not read; convert it to PNG"},
};

/// Throws for a file that begins like no format of the table.
[[noreturn]] void refuse(Bytes file, std::string_view name) {
  VT_CHECK(!file.empty(), "{}: is empty, 0 bytes, expected an image", name);
  const auto* text = reinterpret_cast<const char*>(file.data());
  std::string start = in_lower_case(std::string(text, std::min<std::size_t>(file.size(), 256)));
  if (start.starts_with("\xEF\xBB\xBF")) start.erase(0, 3);  // the mark at the beginning of UTF-8
  if (std::isspace(static_cast<unsigned char>(start.front()))) start.erase(0, start.find_first_not_of(" \t\r\n"));
  const Bytes begin(reinterpret_cast<const std::uint8_t*>(start.data()), start.size());
  for (const Stranger& stranger : strangers) {
    VT_CHECK(!begins_with(begin, stranger.signature), "{}: is {}", name, stranger.is);
  }
  std::vector<std::string_view> names;
  for (const ImageFormat& format : image_formats()) names.push_back(format.name);
  throw Error(fmt::format("{}: has {} bytes that begin with{}, expected an image: {}", name, file.size(),
                          first_bytes(file), fmt::join(names, ", ")));
}

}  // namespace

const std::vector<ImageFormat>& image_formats() {
  static const std::vector<ImageFormat> formats = {
      {"JPEG", {"\xFF\xD8"}, {".jpg", ".jpeg", ".jpe", ".jfif"}, decode_jpeg},
      {"PNG", {"\x89PNG\r\n\x1A\n"}, {".png", ".apng"}, decode_png},
      {"WebP", {"RIFF????WEBP"}, {".webp"}, decode_webp},
      {"TIFF", {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}, {".tif", ".tiff"}, decode_tiff},
      {"GIF", {"GIF87a", "GIF89a"}, {".gif"}, decode_gif},
      {"BMP", {"BM"}, {".bmp", ".dib"}, decode_bmp},
      {"PPM", {"P1", "P2", "P3", "P4", "P5", "P6"}, {".ppm", ".pgm", ".pbm", ".pnm"}, decode_netpbm},
  };
  return formats;
}

std::string image_extensions() {
  std::vector<std::string_view> all;
  for (const ImageFormat& format : image_formats())
    all.insert(all.end(), format.extensions.begin(), format.extensions.end());
  return fmt::format("{}", fmt::join(all, ", "));
}

bool has_image_extension(const std::filesystem::path& path) {
  const std::string extension = in_lower_case(path.extension().string());
  return std::ranges::any_of(
      image_formats(), [&](const ImageFormat& format) { return std::ranges::count(format.extensions, extension) > 0; });
}

Image decode_image(Bytes file, std::string_view name) {
  for (const ImageFormat& format : image_formats()) {
    for (const std::string_view signature : format.signatures) {
      if (begins_with(file, signature)) return format.decode(file, name);
    }
  }
  refuse(file, name);
}

Image read_image(const std::filesystem::path& path) { return decode_image(read_bytes(path), path.string()); }

}  // namespace vitrine
