// What all images share: memory, and telling formats apart.
#include "data/image/image.h"

#include <cstring>

#include "tensor/error.h"

namespace vitrine {

Image::Image(int rows, int columns, int channel_count) : height(rows), width(columns), channels(channel_count) {
  VT_CHECK(height >= 0 && width >= 0 && channels > 0, "Image: ({}, {}, {}) is not a size", height, width, channels);
  pixels.resize(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) *
                static_cast<std::size_t>(channels));
}

Image decode_image(Bytes file, std::string_view name) {
  if (file.size() >= 2 && file[0] == 0xFF && file[1] == 0xD8) return decode_jpeg(file, name);
  if (file.size() >= 4 && std::memcmp(file.data(), "\x89PNG", 4) == 0) return decode_png(file, name);
  throw Error(fmt::format("{}: neither a JPEG (FF D8) nor a PNG (89 50 4E 47): {} bytes that begin with{}", name,
                          file.size(), first_bytes(file)));
}

Image read_image(const std::filesystem::path& path) { return decode_image(read_bytes(path), path.string()); }

}  // namespace vitrine
