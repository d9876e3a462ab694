// Tests of the augmentation operations: all of them against Pillow, and what Pillow does not define
// against the formula.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "data/augment/augment_step.h"
#include "data/augment/image_ops.h"
#include "data/augment/transforms.h"
#include "tests/data/data_fixtures.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"

namespace vitrine::testing {
namespace {

constexpr Color golden_fill = {124, 116, 104};

Image image_from(const Tensor& tensor) {
  Image image(static_cast<int>(tensor.size(0)), static_cast<int>(tensor.size(1)));
  image.pixels = tensor.to_vector<std::uint8_t>();
  return image;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

Resampling resampling_by_name(const std::string& name) {
  for (const Resampling kind : {Resampling::nearest, Resampling::bilinear, Resampling::bicubic}) {
    if (name_of(kind) == name) return kind;
  }
  ADD_FAILURE() << name << " is not known";
  return {};
}

TEST(AugmentOps, EqualPillowToTheLastBit) {
  const SafetensorsReader golden(source_dir() + "/tests/golden/augment.safetensors");
  std::map<std::string, int> compared;
  for (const TensorEntry& entry : golden.entries()) {
    if (entry.name.starts_with("source.")) continue;
    const auto parts = split(entry.name, ':');  // source, op, magnitude, resampling
    AugmentStep step{.op = ImageOp(parts.at(1)), .magnitude = std::stod(parts.at(2)), .fill = golden_fill};
    if (parts.size() == 4) step.resampling = resampling_by_name(parts[3]);
    const Image expected = image_from(golden.read(entry.name));
    const Image source = image_from(golden.read("source." + parts[0]));
    const Image result = apply(source, step);
    ASSERT_EQ(result.height, expected.height);
    ASSERT_EQ(result.width, expected.width);
    int worst = 0, different = 0;
    for (std::size_t i = 0; i < result.pixels.size(); ++i) {
      const int difference = std::abs(result.pixels[i] - expected.pixels[i]);
      worst = std::max(worst, difference);
      if (difference > 0) ++different;
    }
    EXPECT_EQ(worst, 0) << entry.name << ": " << different << " of " << result.pixels.size() << " values differ";
    ++compared[parts[1]];
  }
  EXPECT_EQ(compared.size(), ImageOp::all().size() - 1) << "every operation but the identity";
}

TEST(AugmentOps, WhatPillowDoesNotDefine) {
  const Image source = noise_image(9, 7);
  EXPECT_EQ(apply(source, {"identity"}).pixels, source.pixels);
  for (const std::uint8_t value : posterize(source, 0).pixels) EXPECT_EQ(value, 0);
  const Image mirrored = mirror(source);
  for (int y = 0; y < 9; ++y) {
    for (int x = 0; x < 7; ++x) {
      for (int c = 0; c < 3; ++c) EXPECT_EQ(mirrored.at(y, x)[c], source.at(y, 6 - x)[c]);
    }
  }
  EXPECT_NE(mirrored.pixels, source.pixels);
}

TEST(AugmentOps, AnEmptyImageStaysEmpty) {
  for (const ImageOp op : ImageOp::all()) {
    EXPECT_EQ(apply(Image(0, 5), {.op = op, .magnitude = 1}).width, 5) << op.name();
  }
}

TEST(AugmentOps, ErrorsNameTheValue) {
  const Image source = noise_image(4, 4);
  expect_parts(error_of([&] { posterize(source, 9); }), {"posterize", "9 bits", "0 to 8"});
  expect_parts(error_of([&] { gaussian_blur(source, std::nan("")); }), {"gaussian_blur", "nan"});
  expect_parts(error_of([&] { adjust_contrast(Image(2, 2, 1), 0.5); }),
               {"adjust_contrast", "1 channels", "expected 3"});
  expect_parts(error_of([] { ImageOp("solarise"); }),
               {"\"solarise\"", "identity, auto_contrast", "solarize", "rotate"});
  expect_parts(error_of([&] { solarize_add(source, -1); }), {"solarize_add", "-1"});
  expect_parts(error_of([&] { equalize(Image(2, 2, 1)); }), {"equalize", "1 channels", "expected 3"});
  expect_parts(error_of([&] { transform(source, shear_x(std::nan("")), Resampling::bicubic, {}); }),
               {"transform", "nan"});
}

TEST(AugmentOps, StepsSayWhatTheyDo) {
  EXPECT_EQ(to_string({"rotate", -27}), "rotate -27");
  EXPECT_EQ(to_string({"shear_x", 0.2674}), "shear_x 0.267");
  EXPECT_EQ(to_string({"equalize"}), "equalize");
}

TEST(ColorJitter, IsDrawnAsSteps) {
  std::map<ImageOp, int> first;
  for (std::uint64_t stream = 0; stream < 600; ++stream) {
    RandomSequence random(1, Purpose::test, stream);
    const auto steps = draw_color_jitter({.brightness = 0.4, .contrast = 0.2, .saturation = 2}, random);
    ASSERT_EQ(steps.size(), 3u);
    ++first[steps[0].op];
    for (const AugmentStep& step : steps) {
      const double low = step.op == "brightness" ? 0.6 : step.op == "contrast" ? 0.8 : 0;
      const double high = step.op == "brightness" ? 1.4 : step.op == "contrast" ? 1.2 : 3;
      EXPECT_TRUE(step.magnitude >= low && step.magnitude <= high) << to_string(step);
    }
  }
  ASSERT_EQ(first.size(), 3u);
  for (const auto& [op, count] : first) EXPECT_TRUE(count >= 150 && count <= 250) << op.name() << ' ' << count;
}

}  // namespace
}  // namespace vitrine::testing
