// What the tests of data/ share: a folder that goes away, small image files, and the message of an
// expected error.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/formats/formats.h"
#include "tensor/error.h"

namespace vitrine::testing {

/// An empty folder for one test, removed with all it holds.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Writes the bytes, making the folders above.
void write_file(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes);

/// The pattern that the JPEG files below hold: 16 x 24, red = 10 x, green = 15 y, blue = 255 - 5 (x
/// + y).
Image gradient_image();

extern const std::vector<std::uint8_t> rgb_jpeg, grey_jpeg, cmyk_jpeg;  // gradient_image(), written by Pillow

/// Deterministic noise.
Image noise_image(int height, int width, std::uint64_t seed = 0);

/// `count` noise images of side `side`; label = index % 3. Sample `bad_index` cannot be read.
DatasetPtr noise_dataset(std::int64_t count, int side, std::int64_t bad_index = -1);

/// The message of the Error that `body` throws; a failure of the test where it throws none or lets
/// it run over a line.
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

/// Expects `text` to contain every one of `parts`.
void expect_parts(const std::string& text, const std::vector<std::string>& parts);

}  // namespace vitrine::testing
