// Tables of 256 values, blending, sharpening and blurring. Compiled without fused multiply-add
// (data/CMakeLists.txt): Pillow rounds products and sums one by one.
#include "data/augment/image_ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "tensor/error.h"

namespace vitrine {
namespace {

void check_channels(const Image& image, std::string_view op) {
  VT_CHECK(image.channels == 3, "{}: the image has {} channels, expected 3", op, image.channels);
}

/// first + factor * (second - first), cut to a byte towards zero: Pillow's Image.blend, with
/// `second` the image itself.
class Blend {
 public:
  /// The products are kept in a table so that each is rounded by itself, as in Pillow, on every
  /// processor: fused with the sum, as compilers like to do, they give other bytes here and there.
  explicit Blend(double factor) {
    for (int i = 0; i < 511; ++i)
      product_[static_cast<std::size_t>(i)] = static_cast<float>(factor) * static_cast<float>(i - 255);
  }
  std::uint8_t operator()(int first, int second) const {
    const float value = static_cast<float>(first) + product_[static_cast<std::size_t>(second - first + 255)];
    return static_cast<std::uint8_t>(std::clamp(value, 0.0f, 255.0f));
  }

 private:
  std::array<float, 511> product_;  // factor * -255 ... factor * 255
};

/// ITU-R 601 luma, in 16-bit fixed point and rounded: Pillow's convert("L").
int luma(const std::uint8_t* rgb) { return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16; }

/// The new value of each of the 256 old ones.
using Table = std::array<std::uint8_t, 256>;

template <class Function>
Table make_table(Function&& function) {
  Table table;
  for (int value = 0; value < 256; ++value) {
    table[static_cast<std::size_t>(value)] = static_cast<std::uint8_t>(function(value));
  }
  return table;
}

Image mapped(Image image, const Table& table) {
  for (std::uint8_t& value : image.pixels) value = table[value];
  return image;
}

using Histogram = std::array<std::int64_t, 256>;

std::array<Histogram, 3> histograms(const Image& image) {
  std::array<Histogram, 3> counts = {};
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    for (std::size_t c = 0; c < 3; ++c) ++counts[c][image.pixels[i + c]];
  }
  return counts;
}

/// Maps each channel by the table that `make` gives for its histogram.
template <class Make>
Image mapped_by_histogram(Image image, Make&& make) {
  const std::array<Histogram, 3> counts = histograms(image);
  const std::array<Table, 3> tables = {make(counts[0]), make(counts[1]), make(counts[2])};
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    for (std::size_t c = 0; c < 3; ++c) image.pixels[i + c] = tables[c][image.pixels[i + c]];
  }
  return image;
}

Table identity_table() {
  return make_table([](int value) { return value; });
}

Table stretching_table(const Histogram& counts) {
  const auto used = [&](int value) { return counts[static_cast<std::size_t>(value)] > 0; };
  int low = 0, high = 255;
  while (low < 255 && !used(low)) ++low;
  while (high > 0 && !used(high)) --high;
  if (high <= low) return identity_table();
  const double scale = 255.0 / (high - low), offset = -low * scale;
  return make_table([&](int value) { return std::clamp(static_cast<int>(value * scale + offset), 0, 255); });
}

/// Value v goes to (half a step + the pixels below v) / step, where a step is 1/255 of all pixels
/// but the brightest.
Table equalizing_table(const Histogram& counts) {
  std::int64_t sum = 0, brightest = 0;
  int values = 0;
  for (const std::int64_t count : counts) {
    if (count == 0) continue;
    sum += count;
    brightest = count;
    ++values;
  }
  const std::int64_t step = (sum - brightest) / 255;
  if (values <= 1 || step == 0) return identity_table();
  std::int64_t below = step / 2;
  return make_table([&](int value) {
    const std::int64_t level = below / step;
    below += counts[static_cast<std::size_t>(value)];
    return std::min<std::int64_t>(level, 255);
  });
}

/// Every value becomes the mean of its 3 x 3 neighbourhood, itself counted five times. The border,
/// and an image too small to have an inside, stay.
Image smoothed(const Image& image) {
  Image result = image;
  const std::ptrdiff_t row = 3 * static_cast<std::ptrdiff_t>(image.width);
  for (int y = 1; y + 1 < image.height; ++y) {
    const std::uint8_t* input = image.at(y, 0);
    std::uint8_t* output = result.at(y, 0);
    for (std::ptrdiff_t i = 3; i < row - 3; ++i) {
      const int sum = input[i - row - 3] + input[i - row] + input[i - row + 3] + input[i - 3] + 5 * input[i] +
                      input[i + 3] + input[i + row - 3] + input[i + row] + input[i + row + 3];
      output[i] = static_cast<std::uint8_t>((2 * sum + 13) / 26);  // rounded; 13 is odd, so there are no ties
    }
  }
  return result;
}

/// A box of 2 * whole + 1 pixels with weight `inner`, and one more on either side with weight
/// `outer`, in 24-bit fixed point.
struct Box1D {
  int whole = 0;
  std::uint32_t inner = 0, outer = 0;

  /// The box whose `passes` applications have the variance radius^2; the formulas are (7) and (14)
  /// of the paper.
  Box1D(float radius, int passes) {
    const float variance = radius * radius / static_cast<float>(passes);
    const float length = static_cast<float>(std::sqrt(12.0 * variance + 1.0));
    const float floor = static_cast<float>(std::floor((length - 1.0) / 2.0));
    float share = (2 * floor + 1) * (floor * (floor + 1) - 3 * variance);
    share /= 6 * (variance - (floor + 1) * (floor + 1));
    const float half_width = floor + share;
    whole = static_cast<int>(half_width);
    inner = static_cast<std::uint32_t>(static_cast<float>(1 << 24) / (half_width * 2 + 1));
    outer = ((1u << 24) - static_cast<std::uint32_t>(2 * whole + 1) * inner) / 2;
  }
};

/// Blurs `count` values that lie `stride` apart, `passes` times. `line` is room for them and for
/// the border, which is repeated whole + 1 times at either end.
void blur_line(std::uint8_t* values, std::ptrdiff_t stride, int count, Box1D box, int passes,
               std::vector<std::uint8_t>& line) {
  const int margin = box.whole + 1;
  line.resize(static_cast<std::size_t>(count + 2 * margin));
  std::uint8_t* const first = line.data() + margin;
  for (int pass = 0; pass < passes; ++pass) {
    for (int i = 0; i < count; ++i) first[i] = values[i * stride];
    std::fill_n(line.data(), margin, first[0]);
    std::fill_n(first + count, margin, first[count - 1]);
    std::uint32_t sum = 0;  // of the values that have the inner weight
    for (int i = -box.whole; i <= box.whole; ++i) sum += first[i];
    for (int i = 0; i < count; ++i) {
      const std::uint32_t next = first[i + margin], edges = first[i - margin] + next;
      values[i * stride] = static_cast<std::uint8_t>((sum * box.inner + edges * box.outer + (1u << 23)) >> 24);
      sum += next - first[i - box.whole];
    }
  }
}

}  // namespace

Image invert(Image image) {
  check_channels(image, "invert");
  for (std::uint8_t& value : image.pixels) value = static_cast<std::uint8_t>(255 - value);
  return image;
}

Image solarize(Image image, double threshold) {
  check_channels(image, "solarize");
  return mapped(std::move(image), make_table([&](int value) { return value < threshold ? value : 255 - value; }));
}

Image solarize_add(Image image, int amount) {
  check_channels(image, "solarize_add");
  VT_CHECK(amount >= 0, "solarize_add: the amount is {}, expected 0 or more", amount);
  return mapped(std::move(image),
                make_table([&](int value) { return value < 128 ? std::min(255, value + amount) : value; }));
}

Image posterize(Image image, int bits) {
  check_channels(image, "posterize");
  VT_CHECK(bits >= 0 && bits <= 8, "posterize: {} bits, expected 0 to 8", bits);
  const int kept = 256 - (1 << (8 - bits));  // the highest `bits` bits of a byte
  return mapped(std::move(image), make_table([&](int value) { return value & kept; }));
}

Image auto_contrast(Image image) {
  check_channels(image, "auto_contrast");
  return mapped_by_histogram(std::move(image), stretching_table);
}

Image equalize(Image image) {
  check_channels(image, "equalize");
  return mapped_by_histogram(std::move(image), equalizing_table);
}

Image grayscale(Image image) {
  check_channels(image, "grayscale");
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    std::memset(&image.pixels[i], luma(&image.pixels[i]), 3);
  }
  return image;
}

Image adjust_brightness(Image image, double factor) {
  check_channels(image, "adjust_brightness");
  const Blend blend(factor);
  for (std::uint8_t& value : image.pixels) value = blend(0, value);
  return image;
}

Image adjust_contrast(Image image, double factor) {
  check_channels(image, "adjust_contrast");
  std::int64_t sum = 0;
  const std::size_t count = image.pixels.size() / 3;
  for (std::size_t i = 0; i < count; ++i) sum += luma(&image.pixels[3 * i]);
  const int mean = count == 0 ? 0 : static_cast<int>(static_cast<double>(sum) / static_cast<double>(count) + 0.5);
  const Blend blend(factor);
  for (std::uint8_t& value : image.pixels) value = blend(mean, value);
  return image;
}

Image adjust_saturation(Image image, double factor) {
  check_channels(image, "adjust_saturation");
  const Blend blend(factor);
  const std::size_t count = image.pixels.size() / 3;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint8_t* pixel = &image.pixels[3 * i];
    const int grey = luma(pixel);
    for (std::size_t c = 0; c < 3; ++c) pixel[c] = blend(grey, pixel[c]);
  }
  return image;
}

Image adjust_sharpness(Image image, double factor) {
  check_channels(image, "adjust_sharpness");
  const Image smooth = smoothed(image);
  const Blend blend(factor);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = blend(smooth.pixels[i], image.pixels[i]);
  return image;
}

Image gaussian_blur(Image image, double radius) {
  check_channels(image, "gaussian_blur");
  VT_CHECK(radius >= 0 && radius <= 1000, "gaussian_blur: the radius is {}, expected 0 to 1000", radius);
  if (radius == 0 || image.pixels.empty()) return image;
  const int passes = 3;
  const Box1D box(static_cast<float>(radius), passes);
  std::vector<std::uint8_t> line;
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < image.height; ++y) blur_line(image.at(y, 0) + c, 3, image.width, box, passes, line);
    const std::ptrdiff_t row = 3 * static_cast<std::ptrdiff_t>(image.width);
    for (int x = 0; x < image.width; ++x) blur_line(image.at(0, x) + c, row, image.height, box, passes, line);
  }
  return image;
}

Image mirror(Image image) {
  check_channels(image, "mirror");
  for (int y = 0; y < image.height; ++y) {
    for (int left = 0, right = image.width - 1; left < right; ++left, --right) {
      std::swap_ranges(image.at(y, left), image.at(y, left) + 3, image.at(y, right));
    }
  }
  return image;
}

}  // namespace vitrine
