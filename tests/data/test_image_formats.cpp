// Tests of all image formats: Pillow's pixels, one-line errors from damaged files, and what a file
// is that is no image. The files are in tests/golden/images.safetensors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "tensor/philox.h"
#include "tests/data/data_fixtures.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"

namespace vitrine::testing {
namespace {

struct Case {
  std::string name;
  std::vector<std::uint8_t> file;
  Tensor rgb;  // (H, W, 3) u8
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    const SafetensorsReader golden(source_dir() + "/tests/golden/images.safetensors");
    std::vector<Case> read;
    for (const TensorEntry& entry : golden.entries()) {
      if (!entry.name.ends_with(".file")) continue;
      const std::string name = entry.name.substr(0, entry.name.size() - 5);
      read.push_back({name, golden.read(entry.name).to_vector<std::uint8_t>(), golden.read(name + ".rgb")});
    }
    return read;
  }();
  return all;
}

const std::vector<std::uint8_t>& file_of(const std::string& name) {
  const auto found = std::ranges::find(cases(), name, &Case::name);
  VT_CHECK(found != cases().end(), "golden image: no {}", name);
  return found->file;
}

std::vector<std::uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

void put_little_endian(std::vector<std::uint8_t>& bytes, std::size_t offset, std::uint32_t value, int count) {
  for (int i = 0; i < count; ++i)
    bytes[offset + static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(value >> 8 * i);
}

/// Decodes; an Error must be one line that names the file. Whether it was decoded.
bool decodes(const std::vector<std::uint8_t>& file, const std::string& name) {
  try {
    const Image image = decode_image(file, name);
    EXPECT_EQ(image.pixels.size(), static_cast<std::size_t>(image.height) * static_cast<std::size_t>(image.width) * 3);
    return true;
  } catch (const Error& error) {
    expect_parts(error.what(), {name + ": "});
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return false;
  }
}

TEST(ImageFormats, GiveThePixelsThatPillowGives) {
  std::set<std::string> compared;
  for (const Case& c : cases()) {
    const Image image = decode_image(c.file, c.name);
    ASSERT_EQ(image.height, c.rgb.size(0)) << c.name;
    ASSERT_EQ(image.width, c.rgb.size(1)) << c.name;
    EXPECT_EQ(image.pixels, c.rgb.to_vector<std::uint8_t>()) << c.name;
    compared.insert(c.name.substr(0, c.name.find('.')));
  }
  for (const ImageFormat& format : image_formats()) {
    std::string name = format.name;
    std::ranges::transform(name, name.begin(), [](unsigned char letter) { return std::tolower(letter); });
    EXPECT_TRUE(compared.contains(name)) << "no golden file is a " << format.name;
  }
  EXPECT_GE(cases().size(), 140u);
}

TEST(ImageFormats, AThirdIsAnErrorAndNoTruncationDoesMore) {
  for (const Case& c : cases()) {
    for (std::size_t size = 0; size < c.file.size(); size += 1 + c.file.size() / 64) {
      const std::vector<std::uint8_t> part(c.file.begin(), c.file.begin() + static_cast<std::ptrdiff_t>(size));
      const bool decoded = decodes(part, c.name);
      EXPECT_FALSE(decoded && size <= c.file.size() / 3) << c.name << ", " << size << " of " << c.file.size();
    }
  }
}

TEST(ImageFormats, DamagedBytesNeverDoMoreThanThrow) {
  for (const Case& c : cases()) {
    for (std::uint64_t trial = 0; trial < 60; ++trial) {
      std::vector<std::uint8_t> file = c.file;
      RandomSequence random(trial, Purpose::test);
      for (int i = 0; i < 3; ++i) {
        // Headers are worth most of the trials.
        const auto size = static_cast<std::int64_t>(file.size());
        const auto at =
            static_cast<std::size_t>(random.integer(trial % 2 == 0 ? std::min<std::int64_t>(size, 64) : size));
        file[at] = i == 0 ? static_cast<std::uint8_t>(random.integer(256))
                          : static_cast<std::uint8_t>(file[at] ^ 1u << random.integer(8));
      }
      decodes(file, c.name);
    }
  }
}

TEST(ImageFormats, NoHeaderMayClaimMoreThanTheLimit) {
  const auto expect_refused = [](const std::vector<std::uint8_t>& file, const std::string& size) {
    expect_parts(error_of([&] { decode_image(file, "bomb"); }), {"bomb: ", size, "at most 100000000"});
  };
  expect_refused(bytes_of("P5 20000 20000 255\n"), "20000 x 20000");
  std::vector<std::uint8_t> bmp = file_of("bmp.rgb");
  put_little_endian(bmp, 18, 20000, 4);
  put_little_endian(bmp, 22, 20000, 4);
  expect_refused(bmp, "20000 x 20000");
  std::vector<std::uint8_t> gif = file_of("gif.palette");
  put_little_endian(gif, 6, 20000, 2);
  put_little_endian(gif, 8, 20000, 2);
  expect_refused(gif, "20000 x 20000");
  std::vector<std::uint8_t> tiff = file_of("tiff.strips");  // its directory begins at byte 8 with width and height
  put_little_endian(tiff, 10 + 8, 20000, 2);
  put_little_endian(tiff, 22 + 8, 20000, 2);
  expect_refused(tiff, "20000 x 20000");
  std::vector<std::uint8_t> webp = file_of("webp.animated");  // width - 1 and height - 1 in the chunk VP8X
  put_little_endian(webp, 24, 19999, 3);
  put_little_endian(webp, 27, 19999, 3);
  expect_refused(webp, "20000 x 20000");
  // Below the limit for all images, above what the bytes can hold.
  expect_parts(error_of([] { decode_image(bytes_of("P6 5000 5000 255\n"), "lie"); }), {"lie: ", "bytes can hold"});
}

TEST(ImageFormats, AreToldApartByContent) {
  const TemporaryFolder folder;
  write_file(folder / "gif.png", file_of("gif.grey"));
  write_file(folder / "webp.jpg", file_of("webp.lossless"));
  std::filesystem::create_symlink("none.png", folder / "link.png");
  expect_parts(error_of([&] { read_image(folder / "link.png"); }),
               {"link.png: is a link to none.png, which is not there"});
  EXPECT_EQ(read_image(folder / "gif.png").width, 13);
  EXPECT_EQ(read_image(folder / "webp.jpg").width, 13);
  for (const char* name :
       {"x.JPG", "x.jpeg", "x.png", "x.WebP", "x.tif", "x.tiff", "x.gif", "x.bmp", "x.ppm", "x.pgm"}) {
    EXPECT_TRUE(has_image_extension(name)) << name;
  }
  for (const char* name : {"jpg", "x.txt", "x.jpg.txt", "png."}) EXPECT_FALSE(has_image_extension(name)) << name;
  EXPECT_TRUE(image_extensions().starts_with(".jpg, .jpeg, ")) << image_extensions();
}

TEST(ImageFormats, SayWhatAFileIsThatIsNoImage) {
  using namespace std::string_view_literals;
  const std::pair<std::string_view, const char*> files[] = {
      {"", "is empty, 0 bytes"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer"},
      {"\n<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page"},
      {"\xEF\xBB\xBF<html lang=en>", "HTML page"},
      {"<?xml version=\"1.0\"?><Error/>", "XML"},
      {"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"},
      {"\0\5\x16\7\0\2\0\0Mac OS X"sv, "AppleDouble"},
      {"PK\3\4\24\0"sv, "zip archive"},
      {"%PDF-1.7", "PDF"},
      {"\0\0\0 ftypavif"sv, "AVIF"},
      {"\0\0\0 ftypheic"sv, "HEIC"},
      {"hello", "68 65 6C 6C, expected an image: JPEG, PNG, WebP, TIFF, GIF, BMP, PPM"},
  };
  for (const auto& [text, is] : files) {
    expect_parts(error_of([&] { decode_image(bytes_of(text), "photo.jpg"); }), {"photo.jpg: ", is});
  }
}

}  // namespace
}  // namespace vitrine::testing
