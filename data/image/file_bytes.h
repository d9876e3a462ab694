// Checks that the readers of image and dataset files share. Private to data/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/image/image.h"

namespace vitrine {

/// " FF D8 FF E0": up to four bytes, for messages.
std::string first_bytes(Bytes file);

/// Throws unless an image of this size is allowed (max_image_pixels) and could come out of `file_size` bytes
/// when one byte can stand for at most `pixels_per_byte` pixels.
void check_image_claim(std::string_view name, std::uint64_t height, std::uint64_t width, std::uint64_t file_size,
                       std::uint64_t pixels_per_byte);

}  // namespace vitrine
