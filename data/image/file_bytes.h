// Files as bytes, and the checks that all readers of image and dataset files share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

using Bytes = std::span<const std::uint8_t>;

/// The whole file; an Error that names the path when it cannot be read or is larger than
/// `max_bytes`.
std::vector<std::uint8_t> read_bytes(const std::filesystem::path& path, std::size_t max_bytes = std::size_t{1} << 32);

/// " FF D8 FF E0": up to four bytes, for messages.
std::string first_bytes(Bytes file);

/// No image file may claim more pixels than this, nor more than its number of bytes can encode:
/// both are checked before memory is taken.
inline constexpr std::int64_t max_image_pixels = 100'000'000;

/// Throws unless an image of this size is allowed (max_image_pixels) and could come out of
/// `file_size` bytes when one byte can stand for at most `pixels_per_byte` pixels.
void check_image_claim(std::string_view name, std::uint64_t height, std::uint64_t width, std::uint64_t file_size,
                       std::uint64_t pixels_per_byte);

}  // namespace vitrine
