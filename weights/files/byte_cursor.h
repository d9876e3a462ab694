// Reading little-endian numbers one after the other out of bytes that may end too early.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "tensor/error.h"

namespace vitrine {

/// Takes numbers and runs of bytes from the front. What goes past the end is an Error that begins
/// with `where`, which must outlive the cursor.
class ByteCursor {
 public:
  ByteCursor(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(&where) {}

  std::size_t position() const { return position_; }
  std::size_t left() const { return bytes_.size() - position_; }

  std::span<const std::byte> bytes(std::uint64_t count) {
    VT_CHECK(count <= left(), "{}: ends at byte {}, {} bytes more expected: cut off or damaged", *where_, bytes_.size(),
             count - left());
    const auto taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }
  std::string_view text(std::uint64_t count) {
    const auto taken = bytes(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  /// The text up to the next line feed, which is taken too.
  std::string_view line() {
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + position_, left());
    const std::size_t stop = rest.find('\n');
    VT_CHECK(stop != std::string_view::npos, "{}: has no end of the line that begins at byte {}", *where_, position_);
    position_ += stop + 1;
    return rest.substr(0, stop);
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string* where_;
  std::size_t position_ = 0;
};

/// Whether a file may call a tensor so: no control characters, which would break the line of a
/// message, and at most 1000 bytes.
inline bool is_plain_name(std::string_view name) {
  return name.size() <= 1000 && std::ranges::none_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

/// Text out of a file, fit for one line of a message: control characters as '?', and no more than
/// 100 bytes.
inline std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 100));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text.size() > 100 ? shown + "..." : shown;
}

}  // namespace vitrine
