// The memory of an image.
#include "data/image/image.h"

#include "tensor/error.h"

namespace vitrine {

Image::Image(int rows, int columns, int channel_count) : height(rows), width(columns), channels(channel_count) {
  VT_CHECK(height >= 0 && width >= 0 && channels > 0, "Image: ({}, {}, {}) is not a size", height, width, channels);
  pixels.resize(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) *
                static_cast<std::size_t>(channels));
}

}  // namespace vitrine
