// The formats of Netpbm: PBM, PGM and PPM (P1 to P6), as text or as bytes.
//
// Source: Netpbm's pages pbm(5), pgm(5), ppm(5). After P and a digit come width, height and, but
// for bitmaps, the largest value, as words with spaces and comments between; then the values,
// behind a single space if they are bytes. Values are scaled so that the largest becomes 255.
#include <cctype>
#include <cmath>

#include "data/formats/formats.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

class NetpbmReader {
 public:
  NetpbmReader(Bytes file, std::string_view name) : file_(file), name_(name) {
    const int digit = file[1] - '0';
    as_text_ = digit <= 3;
    is_bitmap_ = digit == 1 || digit == 4;
    channels_ = digit == 3 || digit == 6 ? 3 : 1;
    const std::uint32_t width = number("the width"), height = number("the height");
    // A pixel of a bitmap takes a bit, others a byte or more.
    check_image_claim(name_, height, width, file_.size(), 8);
    height_ = static_cast<int>(height);
    width_ = static_cast<int>(width);
    largest_ = is_bitmap_ ? 1 : number("the largest value");
    VT_CHECK(largest_ > 0 && largest_ < 65536, "{}: bad PPM header: the largest value is {}, expected 1 to 65535",
             name_, largest_);
    if (position_ < file_.size()) ++position_;  // the space behind the header
  }

  Image read() {
    if (!as_text_) {
      const std::size_t across = static_cast<std::size_t>(width_) * static_cast<std::size_t>(channels_);
      const std::size_t row = is_bitmap_ ? (across + 7) / 8 : across * (largest_ > 255 ? 2 : 1);
      const std::size_t expected = position_ + row * static_cast<std::size_t>(height_);
      VT_CHECK(file_.size() >= expected, "{}: bad PPM data: {} bytes, expected {}", name_, file_.size(), expected);
    }
    Image image(height_, width_);
    for (int y = 0; y < height_; ++y) {
      for (int x = 0; x < width_; ++x) {
        std::uint8_t* pixel = image.at(y, x);
        for (int c = 0; c < 3; ++c) pixel[c] = c < channels_ ? scaled(value(x)) : pixel[0];
      }
      if (is_bitmap_ && !as_text_) position_ += static_cast<std::size_t>(width_ + 7) / 8;
    }
    return image;
  }

 private:
  /// The next value; of a bitmap as bytes, the bit of column x.
  std::uint32_t value(int x) {
    if (as_text_) return is_bitmap_ ? digit() : number("a value");
    if (is_bitmap_) return file_[position_ + static_cast<std::size_t>(x) / 8] >> (7 - x % 8) & 1u;
    const std::uint32_t first = file_[position_++];
    return largest_ > 255 ? first << 8 | file_[position_++] : first;
  }

  std::uint8_t scaled(std::uint32_t value) const {
    if (is_bitmap_) return value != 0 ? 0 : 255;  // 1 is black
    VT_CHECK(value <= largest_ || !as_text_, "{}: bad PPM data: value {}, expected {} at most", name_, value, largest_);
    if (largest_ == 255 || value >= largest_) return static_cast<std::uint8_t>(value >= largest_ ? 255 : value);
    return static_cast<std::uint8_t>(std::nearbyint(static_cast<double>(value) / largest_ * 255));
  }

  void skip_spaces() {
    while (position_ < file_.size() && (std::isspace(file_[position_]) || file_[position_] == '#')) {
      if (file_[position_] == '#') {
        while (position_ < file_.size() && file_[position_] != '\n' && file_[position_] != '\r') ++position_;
      } else {
        ++position_;
      }
    }
  }

  std::uint32_t number(const char* what) {
    skip_spaces();
    std::uint32_t result = 0;
    const std::size_t start = position_;
    while (position_ < file_.size() && std::isdigit(file_[position_]) && position_ - start < 9) {
      result = 10 * result + (file_[position_++] - '0');
    }
    const bool ends = position_ == file_.size() || std::isspace(file_[position_]) || file_[position_] == '#';
    VT_CHECK(position_ > start && ends, "{}: bad PPM file: {} at byte {} of {} is no whole number below 10^9", name_,
             what, start, file_.size());
    return result;
  }

  /// One digit of a bitmap as text, which needs no space behind it.
  std::uint32_t digit() {
    skip_spaces();
    const bool good = position_ < file_.size() && (file_[position_] == '0' || file_[position_] == '1');
    VT_CHECK(good, "{}: bad PPM data: byte {} of {} is neither 0 nor 1", name_, position_, file_.size());
    return file_[position_++] - '0';
  }

  Bytes file_;
  std::string_view name_;
  std::size_t position_ = 2;
  bool as_text_ = false, is_bitmap_ = false;
  int channels_ = 1, height_ = 0, width_ = 0;
  std::uint32_t largest_ = 255;
};

}  // namespace

Image decode_netpbm(Bytes file, std::string_view name) { return NetpbmReader(file, name).read(); }

}  // namespace vitrine
