// Tests of the transforms: resizing against Pillow and a naive reference, colour against Pillow,
// crops, flips, erasing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/augment/image_ops.h"
#include "data/augment/transforms.h"
#include "tests/data/data_fixtures.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"

namespace vitrine::testing {
namespace {

Image image_from(const Tensor& tensor) {
  Image image(static_cast<int>(tensor.size(0)), static_cast<int>(tensor.size(1)));
  image.pixels = tensor.to_vector<std::uint8_t>();
  return image;
}

int worst_difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  int worst = a.pixels.size() == b.pixels.size() ? 0 : 256;
  for (std::size_t i = 0; worst < 256 && i < a.pixels.size(); ++i) {
    worst = std::max(worst, std::abs(a.pixels[i] - b.pixels[i]));
  }
  return worst;
}

/// Antialiased bilinear resize of one pixel in double, straight from the definition.
double naive_bilinear(const Image& image, double scale_y, double scale_x, int y, int x, int channel) {
  const double reach_y = std::max(1.0, scale_y), reach_x = std::max(1.0, scale_x);
  double sum = 0, weights = 0;
  for (int i = 0; i < image.height; ++i) {
    for (int j = 0; j < image.width; ++j) {
      const double down = std::abs(i + 0.5 - (y + 0.5) * scale_y) / reach_y;
      const double right = std::abs(j + 0.5 - (x + 0.5) * scale_x) / reach_x;
      const double weight = std::max(0.0, 1 - down) * std::max(0.0, 1 - right);
      sum += weight * image.at(i, j)[channel];
      weights += weight;
    }
  }
  return sum / weights;
}

TEST(Resize, EqualsPillowToTheLastBit) {
  const SafetensorsReader golden(source_dir() + "/tests/golden/resize.safetensors");
  const Image source = image_from(golden.read("source"));
  int compared = 0;
  for (const TensorEntry& entry : golden.entries()) {
    if (entry.name == "source" || entry.name.starts_with("crop.")) continue;  // those let pixels outside the box in
    const Interpolation filter = interpolation_from_name(entry.name.substr(0, entry.name.find('.')));
    const Image expected = image_from(golden.read(entry.name));
    const Image result = resize(source, expected.height, expected.width, filter);
    EXPECT_EQ(worst_difference(result, expected), 0) << entry.name;
    ++compared;
  }
  EXPECT_GE(compared, 20);
}

TEST(Resize, IsTheWeightedMeanUnderAStretchedTriangle) {
  const Image source = noise_image(11, 17);
  for (const auto& [height, width] : {std::pair{5, 4}, {23, 31}, {1, 1}, {11, 40}}) {
    const Image result = resize(source, height, width, Interpolation::bilinear);
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        for (int c = 0; c < 3; ++c) {
          const double expected = naive_bilinear(source, 11.0 / height, 17.0 / width, y, x, c);
          EXPECT_TRUE(std::abs(result.at(y, x)[c] - expected) <= 1.01) << height << ' ' << y << ' ' << x;
        }
      }
    }
  }
}

TEST(Resize, ACropSeesNothingOutsideItsBox) {
  const Image source = noise_image(20, 30);
  const Box box{3, 7, 11, 13};
  const Image direct = resized_crop(source, box, 8, 9, Interpolation::bicubic);
  EXPECT_EQ(direct.pixels, resize(crop(source, box), 8, 9, Interpolation::bicubic).pixels);
  EXPECT_EQ(resize(source, 20, 30, Interpolation::bicubic).pixels, source.pixels);
  const Image shorter = resize_shorter_side(noise_image(30, 47), 20, Interpolation::bilinear);
  EXPECT_EQ(shorter.height, 20);
  EXPECT_EQ(shorter.width, 31);  // int(20 * 47 / 30)
  expect_parts(error_of([&] { crop(source, {10, 0, 11, 5}); }), {"11 rows", "20 rows"});
  expect_parts(error_of([] { interpolation_from_name("lanczos"); }), {"lanczos", "bicubic"});
}

TEST(ColorJitter, StepsEqualPillow) {
  struct Case {
    Image (*step)(Image, double);
    double factor;
    std::int64_t sum, weighted;  // of all values, and of value * (1 + i % 251): made with Pillow's ImageEnhance
  };
  const Case cases[] = {
      {adjust_brightness, 0.35, 51696, 6236424},   {adjust_brightness, 0.8, 119040, 14358476},
      {adjust_brightness, 1.3, 187965, 22739634},  {adjust_brightness, 1.7, 219132, 26530941},
      {adjust_contrast, 0.35, 140592, 16846233},   {adjust_contrast, 0.8, 145536, 17521666},
      {adjust_contrast, 1.3, 153602, 18497547},    {adjust_contrast, 1.7, 159041, 19186587},
      {adjust_saturation, 0.35, 140389, 17006802}, {adjust_saturation, 0.8, 145914, 17623304},
      {adjust_saturation, 1.3, 152027, 18291421},  {adjust_saturation, 1.7, 154549, 18550657},
  };
  for (const Case& c : cases) {
    const Image result = c.step(gradient_image(), c.factor);
    std::int64_t sum = 0, weighted = 0;
    for (std::size_t i = 0; i < result.pixels.size(); ++i) {
      sum += result.pixels[i];
      weighted += result.pixels[i] * static_cast<std::int64_t>(1 + i % 251);
    }
    EXPECT_EQ(sum, c.sum) << c.factor;
    EXPECT_EQ(weighted, c.weighted) << c.factor;
  }
}

TEST(ColorJitter, NoStrengthChangesNothing) {
  RandomSequence random(3, Purpose::test);
  EXPECT_EQ(apply_color_jitter(gradient_image(), {}, random).pixels, gradient_image().pixels);
  EXPECT_NE(apply_color_jitter(gradient_image(), {.contrast = 0.5}, random).pixels, gradient_image().pixels);
}

TEST(Pad, ZeroAndReflection) {
  const Image source = noise_image(4, 5);
  const Image zero = pad(source, 2, TrainTransform::Padding::zero);
  ASSERT_EQ(zero.height, 8);
  ASSERT_EQ(zero.width, 9);
  const Image reflected = pad(source, 3, TrainTransform::Padding::reflect);
  const auto mirror = [](int i, int n) { return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i; };
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 9; ++x) {
        const bool inside = y >= 2 && y < 6 && x >= 2 && x < 7;
        EXPECT_EQ(zero.at(y, x)[c], inside ? source.at(y - 2, x - 2)[c] : 0);
      }
    }
    for (int y = 0; y < 10; ++y) {
      for (int x = 0; x < 11; ++x) EXPECT_EQ(reflected.at(y, x)[c], source.at(mirror(y - 3, 4), mirror(x - 3, 5))[c]);
    }
  }
  expect_parts(error_of([&] { pad(source, 4, TrainTransform::Padding::reflect); }), {"4 pixels", "5 x 4"});
}

TEST(RandomResizedCrop, BoxesKeepAreaAndRatioAndFallBackToTheMiddle) {
  RandomSequence random(1, Purpose::test);
  double smallest = 1, largest = 0;
  for (int i = 0; i < 2000; ++i) {
    const Box box = random_resized_crop_box(60, 80, {0.2, 0.9}, {0.75, 4.0 / 3}, random);
    ASSERT_TRUE(box.top >= 0 && box.left >= 0 && box.top + box.height <= 60 && box.left + box.width <= 80);
    const double area = box.height * box.width / 4800.0, ratio = static_cast<double>(box.width) / box.height;
    smallest = std::min(smallest, area);
    largest = std::max(largest, area);
    EXPECT_TRUE(area >= 0.18 && area <= 0.93 && ratio >= 0.70 && ratio <= 1.42) << area << ' ' << ratio;
  }
  EXPECT_TRUE(smallest < 0.25 && largest > 0.8);
  const Box wide = random_resized_crop_box(10, 200, {1, 1}, {0.75, 4.0 / 3}, random);  // no box fits
  EXPECT_EQ(wide.height, 10);
  EXPECT_EQ(wide.width, 13);
  EXPECT_EQ(wide.left, (200 - 13) / 2);
}

TEST(Normalize, PutsChannelsFirstAndMirrors) {
  const Image source = noise_image(3, 4);
  std::vector<float> plain(36), mirrored(36);
  normalize(source, imagenet_normalization, false, plain.data());
  normalize(source, imagenet_normalization, true, mirrored.data());
  for (std::size_t c = 0; c < 3; ++c) {
    for (int y = 0; y < 3; ++y) {
      for (int x = 0; x < 4; ++x) {
        const double expected =
            (source.at(y, x)[c] / 255.0 - imagenet_normalization.mean[c]) / imagenet_normalization.std[c];
        const std::size_t row = c * 12 + static_cast<std::size_t>(y) * 4;
        EXPECT_TRUE(std::abs(plain[row + static_cast<std::size_t>(x)] - expected) <= 1e-6);
        EXPECT_EQ(plain[row + static_cast<std::size_t>(x)], mirrored[row + static_cast<std::size_t>(3 - x)]);
      }
    }
  }
}

TEST(TrainTransform, PaddedCropGivesEveryWindowAndBothMirrorings) {
  const TrainTransform transform{.image_size = 8, .padding = 1};
  const Image source = noise_image(8, 8), padded = pad(source, 1, TrainTransform::Padding::zero);
  std::vector<int> seen(18);
  for (std::uint64_t stream = 0; stream < 300; ++stream) {
    RandomSequence random(1, Purpose::augmentation, stream);
    std::vector<float> output(192), window(192);
    transform(source, random, output.data());
    for (int i = 0; i < 18; ++i) {
      normalize(crop(padded, {i / 6, i / 2 % 3, 8, 8}), transform.normalization, i % 2 == 1, window.data());
      if (window == output) ++seen[static_cast<std::size_t>(i)];
    }
  }
  EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0), 300);
  for (const int count : seen) EXPECT_GE(count, 5);
}

TEST(TrainTransform, IsAFunctionOfItsRandomNumbers) {
  TrainTransform transform{.image_size = 16, .crop = TrainTransform::Crop::resized};
  transform.color_jitter = {0.4, 0.4, 0.4};
  transform.erasing = {.probability = 1, .mode = RandomErasing::Mode::pixel};
  const Image source = noise_image(40, 50);
  std::vector<float> a(768), b(768), other(768);
  RandomSequence first(1, Purpose::augmentation, 9), again(1, Purpose::augmentation, 9),
      next(1, Purpose::augmentation, 8);
  transform(source, first, a.data());
  transform(source, again, b.data());
  transform(source, next, other.data());
  EXPECT_EQ(a, b);
  EXPECT_NE(a, other);
}

TEST(TrainTransform, ChecksItsFields) {
  const auto message = [](TrainTransform transform) { return error_of([&] { transform.check(); }); };
  expect_parts(message({.image_size = 0}), {"image_size is 0"});
  expect_parts(message({.scale = {0.9, 0.1}}), {"scale", "0.9"});
  expect_parts(message({.scale = {0.5, 2}}), {"scale", "2"});
  expect_parts(message({.ratio = {0, 1}}), {"ratio"});
  expect_parts(message({.horizontal_flip = 1.5}), {"horizontal_flip is 1.5"});
  expect_parts(message({.horizontal_flip = std::nan("")}), {"horizontal_flip is nan"});
  expect_parts(message({.color_jitter = {.contrast = -1}}), {"-1"});
  expect_parts(message({.normalization = {.mean = {0, 0, 0}, .std = {1, 0, 1}}}), {"std 0", "channel 1"});
  expect_parts(message({.erasing = {.probability = 2}}), {"erasing", "2"});
  expect_parts(error_of([] { Transform(EvalTransform{.crop_pct = 0}); }), {"crop_pct is 0"});
}

TEST(EvalTransform, TakesTheMiddleOfTheResizedImage) {
  const EvalTransform transform{.image_size = 14, .crop_pct = 0.875};
  const Image source = noise_image(30, 45);
  std::vector<float> output(3 * 14 * 14), expected(3 * 14 * 14);
  transform(source, output.data());
  const Image resized = resize(source, 16, 24, Interpolation::bicubic);
  normalize(crop(resized, {1, 5, 14, 14}), transform.normalization, false, expected.data());
  EXPECT_EQ(output, expected);
}

TEST(RandomErasing, ErasesTheShareOfTheAreaThatWasAskedFor) {
  for (const char* name : {"const", "rand", "pixel"}) {
    const RandomErasing erasing{.probability = 0.5, .mode = erasing_mode_from_name(name)};
    int erased_images = 0;
    double sum = 0, squares = 0, count = 0;
    for (std::uint64_t stream = 0; stream < 1000; ++stream) {
      std::vector<float> values(3 * 24 * 24, 7.0f);
      RandomSequence random(2, Purpose::augmentation, stream);
      random_erase(erasing, 24, 24, random, values.data());
      double erased = 0;
      for (const float value : values) {
        if (value == 7.0f) continue;
        ++erased;
        sum += value;
        squares += value * value;
      }
      count += erased;
      if (erased == 0) continue;
      ++erased_images;
      EXPECT_TRUE(erased / 1728 >= 0.01 && erased / 1728 <= 0.36) << name << ' ' << erased;
    }
    EXPECT_TRUE(erased_images >= 430 && erased_images <= 570) << name << ' ' << erased_images;
    const bool constant = erasing.mode == RandomErasing::Mode::constant;
    EXPECT_TRUE(std::abs(sum / count) <= (constant ? 0 : 0.1)) << name << ' ' << sum / count;
    EXPECT_TRUE(std::abs(squares / count - (constant ? 0 : 1)) <= (constant ? 0 : 0.15))
        << name << ' ' << squares / count;
  }
  expect_parts(error_of([] { erasing_mode_from_name("noise"); }), {"noise", "const, rand or pixel"});
}

TEST(RandomErasing, ColorModeUsesOneNumberPerChannel) {
  const RandomErasing erasing{.probability = 1, .mode = RandomErasing::Mode::color};
  std::vector<float> values(3 * 24 * 24, 7.0f);
  RandomSequence random(2, Purpose::augmentation);
  random_erase(erasing, 24, 24, random, values.data());
  for (std::size_t c = 0; c < 3; ++c) {
    std::vector<float> channel(values.begin() + static_cast<std::ptrdiff_t>(576 * c),
                               values.begin() + static_cast<std::ptrdiff_t>(576 * (c + 1)));
    std::ranges::sort(channel);
    const auto last = std::unique(channel.begin(), channel.end());
    EXPECT_EQ(last - channel.begin(), 2) << "the old value and one new one";
  }
}

}  // namespace
}  // namespace vitrine::testing
