// BMP files: whole colours of 16, 24 and 32 bits and palettes of 1, 4 and 8, without compression or
// with run lengths.
//
// Source: Microsoft, "Bitmap Storage". A header of 14 bytes (where the pixels are), a second one
// whose first number is its own length (what they are), masks or a palette, then the rows, from the
// bottom up unless the height is negative, each padded to whole words of 4 bytes.
#include <algorithm>
#include <array>
#include <bit>

#include "data/formats/formats.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

enum Compression : std::uint32_t { none = 0, runs_of_8 = 1, runs_of_4 = 2, masks = 3 };

class BmpReader {
 public:
  BmpReader(Bytes file, std::string_view name) : file_(file), name_(name) { read_header(); }

  Image read() {
    if (compression_ == runs_of_8 || compression_ == runs_of_4) return read_runs();
    const std::size_t row_bytes = (static_cast<std::size_t>(width_) * bits_ + 31) / 32 * 4;
    need(start_, row_bytes * static_cast<std::size_t>(height_));
    Image image(height_, width_);
    for (int y = 0; y < height_; ++y) {
      const std::uint8_t* row = file_.data() + start_ + row_bytes * static_cast<std::size_t>(y);
      for (int x = 0; x < width_; ++x) put(pixel_of(row, static_cast<std::size_t>(x)), image.at(stored(y), x));
    }
    return image;
  }

 private:
  using Color = std::array<std::uint8_t, 3>;

  void need(std::size_t offset, std::size_t count) const {
    VT_CHECK(offset <= file_.size() && count <= file_.size() - offset,
             "{}: bad BMP data: {} bytes, expected {} at least", name_, file_.size(), offset + count);
  }
  std::uint32_t number(std::size_t offset, int bytes) const {  // little-endian
    need(offset, static_cast<std::size_t>(bytes));
    std::uint32_t value = 0;
    for (int i = bytes - 1; i >= 0; --i) value = value << 8 | file_[offset + static_cast<std::size_t>(i)];
    return value;
  }

  void read_header() {
    start_ = number(10, 4);
    const std::uint32_t header = number(14, 4);
    const bool old = header == 12;  // OS/2: 16-bit sizes and 3 bytes for each colour of the palette
    VT_CHECK(old || header == 40 || header == 52 || header == 56 || header == 64 || header == 108 || header == 124,
             "{}: bad BMP header: it has {} bytes, expected 12, 40, 52, 56, 64, 108 or 124", name_, header);
    const auto height = old ? static_cast<std::int64_t>(number(20, 2)) : static_cast<std::int32_t>(number(22, 4));
    const std::uint32_t width = old ? number(18, 2) : number(18, 4);
    bits_ = number(old ? 24 : 28, 2);
    compression_ = old ? std::uint32_t{none} : number(30, 4);
    VT_CHECK(bits_ == 1 || bits_ == 4 || bits_ == 8 || bits_ == 16 || bits_ == 24 || bits_ == 32,
             "{}: bad BMP header: {} bits for each pixel, expected 1, 4, 8, 16, 24 or 32", name_, bits_);
    const bool fits = compression_ == none || (compression_ == masks && bits_ >= 16) ||
                      (compression_ == runs_of_8 && bits_ == 8) || (compression_ == runs_of_4 && bits_ == 4);
    VT_CHECK(fits, "{}: BMP compression {} with {} bits is not read, expected none, masks or run lengths", name_,
             compression_, bits_);
    from_top_ = height < 0;
    // A pixel takes a bit, or a run of 255 takes two bytes; what the runs leave out is black.
    const bool runs = compression_ == runs_of_8 || compression_ == runs_of_4;
    check_image_claim(name_, static_cast<std::uint64_t>(from_top_ ? -height : height), width, file_.size(),
                      runs ? 1024 : 8);
    height_ = static_cast<int>(from_top_ ? -height : height);
    width_ = static_cast<int>(width);
    if (bits_ <= 8) {
      read_palette(14 + header, old ? 3 : 4, old ? 0 : number(46, 4));
    } else {
      read_masks(header);
    }
  }

  /// A palette of all greys is looked up like any other. An index behind the palette is black.
  void read_palette(std::size_t offset, std::size_t bytes, std::uint32_t count) {
    if (count == 0) count = 1u << bits_;
    VT_CHECK(count <= 65536, "{}: bad BMP header: a palette of {} colours, expected 65536 at most", name_, count);
    need(offset, bytes * count);
    for (std::size_t i = 0; i < std::min<std::size_t>(count, 256); ++i) {
      const std::uint8_t* color = file_.data() + offset + bytes * i;  // blue, green, red
      palette_[i] = {color[2], color[1], color[0]};
    }
  }

  /// Which bits of a pixel are red, green and blue.
  void read_masks(std::uint32_t header) {
    masks_ = {0xFF0000, 0xFF00, 0xFF};
    if (bits_ == 16) masks_ = {0x7C00, 0x3E0, 0x1F};
    if (compression_ != masks) return;
    const std::size_t offset = header >= 52 ? 54 : 14 + header;  // inside the header, or behind it
    std::array<std::uint32_t, 3> given;
    for (std::size_t c = 0; c < 3; ++c) given[c] = number(offset + 4 * c, 4);
    if (given != std::array<std::uint32_t, 3>{}) masks_ = given;
    for (const std::uint32_t mask : masks_) {
      const std::uint32_t ones = mask == 0 ? 0 : mask >> std::countr_zero(mask);
      VT_CHECK(mask != 0 && (ones & (ones + 1)) == 0 && ones <= 255 && (bits_ == 32 || mask >> bits_ == 0),
               "{}: BMP mask {:X} is not read, expected up to 8 bits side by side, within {}", name_, mask, bits_);
    }
  }

  Color pixel_of(const std::uint8_t* row, std::size_t x) const {
    if (bits_ <= 8) {
      const std::size_t in_byte = 8 / bits_;
      const std::size_t shift = 8 - bits_ * (x % in_byte + 1);
      return palette_[row[x / in_byte] >> shift & ((1u << bits_) - 1)];
    }
    std::uint32_t value = 0;
    const std::size_t bytes = bits_ / 8;
    for (std::size_t i = 0; i < bytes; ++i) value |= static_cast<std::uint32_t>(row[bytes * x + i]) << (8 * i);
    Color color;
    for (std::size_t c = 0; c < 3; ++c) {
      const int shift = std::countr_zero(masks_[c]);
      color[c] = static_cast<std::uint8_t>(((value & masks_[c]) >> shift) * 255 / (masks_[c] >> shift));
    }
    return color;
  }

  /// Pairs of bytes: a count and the colour that is repeated; or 0 and a code. Code 0 ends the
  /// row, 1 the picture; 2 moves right and up by the next two bytes; n >= 3 is followed by n
  /// colours, padded to an even number of bytes.
  Image read_runs() {
    std::vector<std::uint8_t> indices;  // in the order of the file
    const auto size = static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_);
    const auto row_length = static_cast<std::size_t>(width_);
    std::size_t at = start_;
    const auto next = [&] { return static_cast<std::uint8_t>(number(at++, 1)); };
    const auto fill_to = [&](std::size_t length) { indices.resize(std::min(length, size)); };
    const auto nibble = [&](std::uint8_t byte, std::size_t i) {
      return bits_ == 8 ? byte : static_cast<std::uint8_t>(i % 2 == 0 ? byte >> 4 : byte & 15);
    };
    while (indices.size() < size) {
      const std::size_t count = next();
      const std::uint8_t value = next();
      if (count > 0) {
        const std::size_t room = row_length - indices.size() % row_length;
        for (std::size_t i = 0; i < std::min(count, room); ++i) indices.push_back(nibble(value, i));
      } else if (value == 0) {
        fill_to((indices.size() + row_length - 1) / row_length * row_length);
      } else if (value == 1) {
        break;
      } else if (value == 2) {
        const std::size_t right = next(), up = next();
        fill_to(indices.size() + right + up * row_length);
      } else {
        const std::size_t single = std::min<std::size_t>(value, size - indices.size());
        std::uint8_t byte = 0;
        for (std::size_t i = 0; i < single; ++i) {
          if (bits_ == 8 || i % 2 == 0) byte = next();
          indices.push_back(nibble(byte, i));
        }
        at += (at - start_) % 2;
      }
    }
    indices.resize(size);
    Image image(height_, width_);
    for (std::size_t i = 0; i < size; ++i) {
      const int y = static_cast<int>(i / row_length), x = static_cast<int>(i % row_length);
      put(palette_[indices[i]], image.at(stored(y), x));
    }
    return image;
  }

  int stored(int y) const { return from_top_ ? y : height_ - 1 - y; }
  static void put(const Color& color, std::uint8_t* pixel) { std::ranges::copy(color, pixel); }

  Bytes file_;
  std::string_view name_;
  std::size_t start_ = 0;  // of the pixels
  int height_ = 0, width_ = 0;
  bool from_top_ = false;
  std::uint32_t bits_ = 0, compression_ = none;
  std::array<Color, 256> palette_ = {};
  std::array<std::uint32_t, 3> masks_ = {};
};

}  // namespace

Image decode_bmp(Bytes file, std::string_view name) { return BmpReader(file, name).read(); }

}  // namespace vitrine
