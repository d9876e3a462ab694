// Antialiased resizing in two passes with fixed-point weights, and cropping.
#include "data/image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/image/file_bytes.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

constexpr int fraction_bits = 22;  // of a weight: 8 bits of pixel, 22 of weight and 2 of headroom make 32

/// The triangle of linear interpolation, or the cubic of Keys (1981) with a = -1/2.
double filter_value(Interpolation interpolation, double x) {
  x = std::abs(x);
  if (interpolation == Interpolation::bilinear) return x < 1 ? 1 - x : 0;
  const double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double filter_radius(Interpolation interpolation) { return interpolation == Interpolation::bilinear ? 1 : 2; }

/// For each of the `output` positions along one axis: the first input position under the filter,
/// and the weights.
struct Taps {
  int width = 0;                     // weights kept per output position
  std::vector<int> first, count;     // (output)
  std::vector<std::int32_t> weight;  // (output, width), summing to 2^fraction_bits but for rounding
};

Taps make_taps(int input, int output, Interpolation interpolation) {
  const double scale = static_cast<double>(input) / output;
  const double stretch = std::max(scale, 1.0);  // a reduction widens the filter
  const double radius = filter_radius(interpolation) * stretch;
  Taps taps;
  taps.width = static_cast<int>(std::ceil(radius)) * 2 + 1;
  taps.weight.resize(static_cast<std::size_t>(output) * static_cast<std::size_t>(taps.width));
  std::vector<double> values(static_cast<std::size_t>(taps.width));
  for (int i = 0; i < output; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - radius + 0.5));
    const int count = std::min(input, static_cast<int>(center + radius + 0.5)) - first;
    double sum = 0;
    for (int k = 0; k < count; ++k) {
      values[static_cast<std::size_t>(k)] = filter_value(interpolation, (first + k + 0.5 - center) / stretch);
      sum += values[static_cast<std::size_t>(k)];
    }
    std::int32_t* weight = &taps.weight[static_cast<std::size_t>(i) * static_cast<std::size_t>(taps.width)];
    for (int k = 0; k < count; ++k) {
      weight[k] =
          static_cast<std::int32_t>(std::round(values[static_cast<std::size_t>(k)] / sum * (1 << fraction_bits)));
    }
    taps.first.push_back(first);
    taps.count.push_back(count);
  }
  return taps;
}

std::uint8_t to_byte(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> fraction_bits, 0, 255)); }

constexpr std::int32_t half = 1 << (fraction_bits - 1);

/// One row of `taps.first.size()` RGB pixels from `row`.
void resize_row(const std::uint8_t* row, const Taps& taps, std::uint8_t* output) {
  const std::int32_t* weight = taps.weight.data();
  for (std::size_t x = 0; x < taps.first.size(); ++x, weight += taps.width) {
    const std::uint8_t* pixel = row + 3 * taps.first[x];
    std::int32_t red = half, green = half, blue = half;
    for (int k = 0; k < taps.count[x]; ++k, pixel += 3) {
      red += pixel[0] * weight[k];
      green += pixel[1] * weight[k];
      blue += pixel[2] * weight[k];
    }
    *output++ = to_byte(red);
    *output++ = to_byte(green);
    *output++ = to_byte(blue);
  }
}

/// The pixels of `box` with every row resized by `taps`.
Image resize_horizontally(const Image& image, Box box, const Taps& taps) {
  Image result(box.height, static_cast<int>(taps.first.size()));
  for (int y = 0; y < box.height; ++y) resize_row(image.at(box.top + y, box.left), taps, result.at(y, 0));
  return result;
}

/// The pixels of `box` with every column resized by `taps`: weighted sums of whole rows.
Image resize_vertically(const Image& image, Box box, const Taps& taps) {
  Image result(static_cast<int>(taps.first.size()), box.width);
  const std::size_t row_bytes = 3 * static_cast<std::size_t>(box.width);
  std::vector<std::int32_t> sum(row_bytes);
  for (int y = 0; y < result.height; ++y) {
    const auto output_row = static_cast<std::size_t>(y);
    const std::int32_t* weight = &taps.weight[output_row * static_cast<std::size_t>(taps.width)];
    std::ranges::fill(sum, half);
    for (int k = 0; k < taps.count[output_row]; ++k) {
      const std::uint8_t* input = image.at(box.top + taps.first[output_row] + k, box.left);
      for (std::size_t i = 0; i < row_bytes; ++i) sum[i] += input[i] * weight[k];
    }
    std::uint8_t* output = result.at(y, 0);
    for (std::size_t i = 0; i < row_bytes; ++i) output[i] = to_byte(sum[i]);
  }
  return result;
}

/// Whether Pillow 13 runs the vertical pass first: the height shrinks, and by more than twice what
/// the width does.
bool is_vertical_first(Box box, int height, int width) {
  return height < box.height && box.height - height > 2 * (box.width - width);
}

void check_box(const Image& image, Box box, std::string_view op) {
  VT_CHECK(image.channels == 3, "{}: the image has {} channels, expected 3", op, image.channels);
  VT_CHECK(box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 && box.height <= image.height - box.top &&
               box.width <= image.width - box.left,
           "{}: box of {} rows and {} columns from ({}, {}) does not lie inside {} rows and {} columns", op, box.height,
           box.width, box.top, box.left, image.height, image.width);
}

}  // namespace

Interpolation interpolation_from_name(std::string_view name) {
  if (name == "bilinear") return Interpolation::bilinear;
  if (name == "bicubic") return Interpolation::bicubic;
  throw Error(fmt::format("interpolation: \"{}\", expected bilinear or bicubic", name));
}

Image crop(const Image& image, Box box) {
  check_box(image, box, "crop");
  Image result(box.height, box.width);
  const std::size_t row_bytes = 3 * static_cast<std::size_t>(box.width);
  for (int y = 0; y < box.height; ++y) std::memcpy(result.at(y, 0), image.at(box.top + y, box.left), row_bytes);
  return result;
}

Image resized_crop(const Image& image, Box box, int height, int width, Interpolation interpolation) {
  check_box(image, box, "resized_crop");
  VT_CHECK(height > 0 && width > 0 && height <= max_image_pixels / width,
           "resized_crop: cannot resize to {} x {} pixels", width, height);
  if (height == box.height && width == box.width) return crop(image, box);

  const Taps columns = make_taps(box.width, width, interpolation);
  const Taps rows = make_taps(box.height, height, interpolation);
  if (is_vertical_first(box, height, width)) {
    return resize_horizontally(resize_vertically(image, box, rows), {0, 0, height, box.width}, columns);
  }
  return resize_vertically(resize_horizontally(image, box, columns), {0, 0, box.height, width}, rows);
}

Image resize(const Image& image, int height, int width, Interpolation interpolation) {
  return resized_crop(image, {0, 0, image.height, image.width}, height, width, interpolation);
}

Image resize_shorter_side(const Image& image, int size, Interpolation interpolation) {
  VT_CHECK(image.height > 0 && image.width > 0, "resize: the image is empty");
  const auto longer = [size](int side, int shorter) {
    return static_cast<int>(static_cast<std::int64_t>(size) * side / shorter);
  };
  if (image.width <= image.height) return resize(image, longer(image.height, image.width), size, interpolation);
  return resize(image, size, longer(image.width, image.height), interpolation);
}

}  // namespace vitrine
