// Reading a file, and what a header may claim.
#include "data/image/file_bytes.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "tensor/error.h"

namespace vitrine {

std::vector<std::uint8_t> read_bytes(const std::filesystem::path& path, std::size_t max_bytes) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status) && std::filesystem::is_symlink(path, error)) {
    throw Error(fmt::format("{}: is a link to {}, which is not there", path.string(),
                            std::filesystem::read_symlink(path, error).string()));
  }
  VT_CHECK(std::filesystem::exists(status), "{}: no such file", path.string());
  VT_CHECK(std::filesystem::is_regular_file(status), "{}: not a regular file", path.string());
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  VT_CHECK(!error, "{}: {}", path.string(), error.message());
  VT_CHECK(size <= max_bytes, "{}: {} bytes, at most {} are read", path.string(), size, max_bytes);

  std::ifstream stream(path, std::ios::binary);
  VT_CHECK(stream.is_open(), "{}: cannot be opened: {}", path.string(), std::strerror(errno));
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  VT_CHECK(stream.gcount() == static_cast<std::streamsize>(size), "{}: only {} of {} bytes could be read",
           path.string(), stream.gcount(), size);
  return bytes;
}

std::string first_bytes(Bytes file) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(file.size(), 4); ++i) text += fmt::format(" {:02X}", file[i]);
  return text.empty() ? " nothing" : text;
}

void check_image_claim(std::string_view name, std::uint64_t height, std::uint64_t width, std::uint64_t file_size,
                       std::uint64_t pixels_per_byte) {
  VT_CHECK(height > 0 && width > 0, "{}: the header says {} x {} pixels", name, width, height);
  VT_CHECK(width <= static_cast<std::uint64_t>(max_image_pixels) / height,
           "{}: the header says {} x {} pixels, at most {} in all are accepted", name, width, height, max_image_pixels);
  VT_CHECK(height * width / pixels_per_byte <= file_size,
           "{}: the header says {} x {} pixels, more than {} bytes can hold", name, width, height, file_size);
}

}  // namespace vitrine
