// Tests of image decoding: right pixels from good files, one-line errors from damaged, lying and
// hostile ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "data/formats/formats.h"
#include "tensor/philox.h"
#include "tests/data/data_fixtures.h"

namespace vitrine::testing {
namespace {

int sum_of(const Image& image) { return std::accumulate(image.pixels.begin(), image.pixels.end(), 0); }

void expect_pixel(const Image& image, int y, int x, std::array<int, 3> expected) {
  for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(image.at(y, x)[c], expected[c]) << y << ' ' << x << ' ' << c;
}

void put_big_endian(std::vector<std::uint8_t>& bytes, std::size_t offset, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) bytes[offset + i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
}

/// The checksum at the end of a PNG chunk, over its name and content.
std::uint32_t crc(const std::uint8_t* bytes, std::size_t count) {
  std::uint32_t value = 0xFFFFFFFFu;
  for (std::size_t i = 0; i < count; ++i) {
    value ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1u ? 0xEDB88320u : 0u);
  }
  return ~value;
}

TEST(Jpeg, GivesThePixelsThatPillowGives) {
  const Image image = decode_jpeg(rgb_jpeg, "rgb.jpg");
  EXPECT_EQ(image.height, 16);
  EXPECT_EQ(image.width, 24);
  EXPECT_EQ(image.channels, 3);
  expect_pixel(image, 0, 0, {0, 3, 242});
  expect_pixel(image, 7, 11, {109, 105, 164});
  expect_pixel(image, 15, 23, {230, 222, 79});
  EXPECT_EQ(sum_of(image), 148906);
}

TEST(Jpeg, RepeatsGreyAndConvertsInks) {
  const Image grey = decode_jpeg(grey_jpeg, "grey.jpg");
  expect_pixel(grey, 7, 11, {113, 113, 113});
  EXPECT_EQ(sum_of(grey), 136731);
  const Image inks = decode_jpeg(cmyk_jpeg, "cmyk.jpg");
  expect_pixel(inks, 7, 11, {110, 105, 165});
  expect_pixel(inks, 15, 23, {230, 225, 65});
}

TEST(Jpeg, EveryTruncationIsAnErrorThatNamesTheFile) {
  for (std::size_t size = 0; size + 2 < rgb_jpeg.size(); ++size) {  // without the end marker it may be complete
    const std::vector<std::uint8_t> part(rgb_jpeg.begin(), rgb_jpeg.begin() + static_cast<std::ptrdiff_t>(size));
    expect_parts(error_of([&] { decode_jpeg(part, "cut.jpg"); }), {"cut.jpg: "});
  }
}

TEST(Jpeg, RefusesAHeaderThatClaimsMoreThanTheFileCanHold) {
  std::vector<std::uint8_t> lie = rgb_jpeg;
  const std::uint8_t frame[] = {0xFF, 0xC0, 0x00, 0x11, 0x08};
  const auto at = std::search(lie.begin(), lie.end(), std::begin(frame), std::end(frame));
  ASSERT_NE(at, lie.end());
  std::fill_n(at + 5, 4, std::uint8_t{0xFE});  // height and width
  expect_parts(error_of([&] { decode_jpeg(lie, "lie.jpg"); }), {"lie.jpg", "65278 x 65278", "100000000"});
  at[5] = at[7] = 0x20;  // below the limit for any image, above what 356 bytes can hold
  expect_parts(error_of([&] { decode_jpeg(lie, "lie.jpg"); }), {"lie.jpg", "8446 x 8446", "356 bytes"});
}

TEST(Png, RoundTripIsExact) {
  const Image image = noise_image(13, 29);
  const Image back = decode_png(encode_png(image), "memory");
  EXPECT_EQ(back.height, 13);
  EXPECT_EQ(back.width, 29);
  EXPECT_EQ(back.pixels, image.pixels);
}

TEST(Png, GreyIsRepeated) {
  Image grey(3, 5, 1);
  std::iota(grey.pixels.begin(), grey.pixels.end(), std::uint8_t{40});
  const Image back = decode_png(encode_png(grey), "memory");
  ASSERT_EQ(back.channels, 3);
  expect_pixel(back, 2, 4, {54, 54, 54});
}

TEST(Png, EveryTruncationIsAnErrorThatNamesTheFile) {
  const std::vector<std::uint8_t> file = encode_png(gradient_image());
  for (std::size_t size = 0; size + 20 < file.size(); size += 3) {  // the pixels end before the last, empty chunk
    const std::vector<std::uint8_t> part(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    expect_parts(error_of([&] { decode_png(part, "cut.png"); }), {"cut.png: "});
  }
}

TEST(Png, RefusesAHeaderThatClaimsTooMuch) {
  std::vector<std::uint8_t> file = encode_png(gradient_image());
  put_big_endian(file, 16, 60'000);
  put_big_endian(file, 20, 60'000);
  put_big_endian(file, 29, crc(file.data() + 12, 17));
  expect_parts(error_of([&] { decode_png(file, "bomb.png"); }), {"bomb.png", "60000 x 60000", "100000000"});
  put_big_endian(file, 16, 9'000);
  put_big_endian(file, 20, 9'000);
  put_big_endian(file, 29, crc(file.data() + 12, 17));
  expect_parts(error_of([&] { decode_png(file, "bomb.png"); }), {"bomb.png", "9000 x 9000", "bytes can hold"});
}

TEST(Image, DamagedBytesNeverDoMoreThanThrow) {
  for (const std::vector<std::uint8_t>& good : {rgb_jpeg, cmyk_jpeg, encode_png(gradient_image())}) {
    for (std::uint64_t trial = 0; trial < 400; ++trial) {
      std::vector<std::uint8_t> file = good;
      RandomSequence random(trial, Purpose::test);
      for (int i = 0; i < 3; ++i) {
        const auto at = static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(file.size())));
        file[at] = static_cast<std::uint8_t>(random.integer(256));
      }
      try {
        const Image image = decode_image(file, "damaged");
        EXPECT_EQ(image.pixels.size(), static_cast<std::size_t>(image.height * image.width * 3));
      } catch (const Error& error) {
        expect_parts(error.what(), {"damaged"});
      }
    }
  }
}

TEST(Image, ReadsFilesAndNamesThemInErrors) {
  const TemporaryFolder folder;
  write_png(gradient_image(), folder / "a.png");
  EXPECT_EQ(read_image(folder / "a.png").pixels, gradient_image().pixels);
  write_file(folder / "b.jpg", rgb_jpeg);
  EXPECT_EQ(read_image(folder / "b.jpg").width, 24);
  write_file(folder / "c.jpg", {'t', 'e', 'x', 't'});
  expect_parts(error_of([&] { read_image(folder / "c.jpg"); }), {(folder / "c.jpg").string(), "74 65 78 74", "JPEG"});
  write_file(folder / "d.png", {});
  expect_parts(error_of([&] { read_image(folder / "d.png"); }), {"d.png", "0 bytes"});
  expect_parts(error_of([&] { read_image(folder / "none.png"); }), {"none.png", "no such file"});
  expect_parts(error_of([&] { read_image(folder.path()); }), {folder.path().string(), "not a regular file"});
  expect_parts(error_of([&] { read_bytes(folder / "b.jpg", 10); }), {"b.jpg", "356 bytes", "at most 10"});
}

}  // namespace
}  // namespace vitrine::testing
