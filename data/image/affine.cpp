// Sampling under an affine map. Compiled without fused multiply-add (data/CMakeLists.txt): Pillow
// rounds products and sums one by one, and a coordinate that falls to the other side of a border
// takes another pixel.
#include "data/image/affine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <vector>

#include "tensor/error.h"

namespace vitrine {
namespace {

/// A coordinate along one axis: the lower of the two pixels whose centres enclose it, and how far
/// it lies behind that centre.
struct Position {
  int pixel;
  double fraction;

  explicit Position(double coordinate) : pixel(static_cast<int>(std::floor(coordinate - 0.5))) {
    fraction = coordinate - 0.5 - pixel;
  }
};

int clamped(int i, int count) { return std::clamp(i, 0, count - 1); }

// Red, green, blue and a fourth number that is not used, computed at once: GCC's and Clang's
// vectors.
using Lanes = double __attribute__((vector_size(32)));

struct WidePixel {
  Lanes value;
};

/// Converting all pixels first is faster than each one 16 times.
std::vector<WidePixel> widened(const Image& image) {
  std::vector<WidePixel> pixels(image.pixels.size() / 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    for (std::size_t c = 0; c < 3; ++c) pixels[i].value[c] = image.pixels[3 * i + c];
  }
  return pixels;
}

Lanes linear(const Lanes& v0, const Lanes& v1, double fraction) { return v0 + (v1 - v0) * fraction; }

/// Through v1 at fraction 0 and v2 at 1.
Lanes cubic(const Lanes& v0, const Lanes& v1, const Lanes& v2, const Lanes& v3, double fraction) {
  const Lanes first = v2 - v0, second = 2 * (v0 - v1) + v2 - v3, third = v1 - v0 - v2 + v3;
  return v1 + fraction * (first + fraction * (second + fraction * third));
}

// `pixels` are those of the image; `image` is asked for its size alone.

Lanes sample_bilinear(const Image& image, const WidePixel* pixels, Position x, Position y) {
  const int left = clamped(x.pixel, image.width), right = clamped(x.pixel + 1, image.width);
  const auto along_row = [&](int number) {
    const WidePixel* row = pixels + static_cast<std::ptrdiff_t>(clamped(number, image.height)) * image.width;
    return linear(row[left].value, row[right].value, x.fraction);
  };
  return linear(along_row(y.pixel), along_row(y.pixel + 1), y.fraction);
}

Lanes sample_bicubic(const Image& image, const WidePixel* pixels, Position x, Position y) {
  int column[4];  // before, two around and behind the point
  for (int i = 0; i < 4; ++i) column[i] = clamped(x.pixel + i - 1, image.width);
  const auto along_row = [&](int number) {
    const WidePixel* row = pixels + static_cast<std::ptrdiff_t>(clamped(number, image.height)) * image.width;
    const auto at = [&](int i) { return row[column[i]].value; };
    if (x.fraction == 0) return at(1);  // exactly what the cubic gives there
    return cubic(at(0), at(1), at(2), at(3), x.fraction);
  };
  // Likewise, shears and shifts along x need one row of the four.
  if (y.fraction == 0) return along_row(y.pixel);
  return cubic(along_row(y.pixel - 1), along_row(y.pixel), along_row(y.pixel + 1), along_row(y.pixel + 2), y.fraction);
}

/// Writes sample(x', y') to every pixel of `result` whose point lies inside the image.
template <class Sample>
void sample_all(const Image& image, const Affine& map, Sample&& sample, Image& result) {
  const std::vector<WidePixel> pixels = widened(image);
  for (int y = 0; y < result.height; ++y) {
    std::uint8_t* output = result.at(y, 0);
    const double row = y + 0.5;
    for (int x = 0; x < result.width; ++x, output += 3) {
      const double column = x + 0.5;
      const double from_x = map.a * column + map.b * row + map.c, from_y = map.d * column + map.e * row + map.f;
      if (!(from_x >= 0 && from_x < image.width && from_y >= 0 && from_y < image.height)) continue;
      const Lanes value = sample(image, pixels.data(), Position(from_x), Position(from_y));
      for (int c = 0; c < 3; ++c) output[c] = static_cast<std::uint8_t>(std::clamp(value[c], 0.0, 255.0));
    }
  }
}

/// Coordinates in 16-bit fixed point, added up along rows and columns.
void sample_nearest(const Image& image, const Affine& map, Image& result) {
  const auto fixed = [](double value) { return static_cast<std::int64_t>(std::floor(value * 65536 + 0.5)); };
  const std::int64_t a = fixed(map.a), b = fixed(map.b), d = fixed(map.d), e = fixed(map.e);
  std::int64_t row_x = fixed(map.c + map.a * 0.5 + map.b * 0.5), row_y = fixed(map.f + map.d * 0.5 + map.e * 0.5);
  for (int y = 0; y < result.height; ++y, row_x += b, row_y += e) {
    std::uint8_t* output = result.at(y, 0);
    std::int64_t from_x = row_x, from_y = row_y;
    for (int x = 0; x < result.width; ++x, output += 3, from_x += a, from_y += d) {
      const std::int64_t column = from_x >> 16, row = from_y >> 16;
      if (column < 0 || column >= image.width || row < 0 || row >= image.height) continue;
      std::memcpy(output, image.at(static_cast<int>(row), static_cast<int>(column)), 3);
    }
  }
}

/// To 15 decimals, as Pillow rounds sine and cosine so that right angles are exact.
double rounded(double value) { return std::nearbyint(value * 1e15) / 1e15; }

}  // namespace

std::string_view name_of(Resampling resampling) {
  if (resampling == Resampling::nearest) return "nearest";
  return resampling == Resampling::bilinear ? "bilinear" : "bicubic";
}

Affine shear_x(double factor) { return {.b = factor}; }
Affine shear_y(double factor) { return {.d = factor}; }
Affine translate_x(double pixels) { return {.c = pixels}; }
Affine translate_y(double pixels) { return {.f = pixels}; }

Affine rotation(double degrees, int height, int width) {
  double turn = std::fmod(degrees, 360.0);
  if (turn < 0) turn += 360.0;
  const double angle = -(turn * (std::numbers::pi / 180.0));
  Affine map{.a = rounded(std::cos(angle)), .b = rounded(std::sin(angle)), .e = rounded(std::cos(angle))};
  map.d = rounded(-std::sin(angle));
  const double center_x = width / 2.0, center_y = height / 2.0;
  map.c = map.a * -center_x + map.b * -center_y + center_x;
  map.f = map.d * -center_x + map.e * -center_y + center_y;
  return map;
}

Image transform(const Image& image, const Affine& map, Resampling resampling, Color fill) {
  VT_CHECK(image.channels == 3, "transform: the image has {} channels, expected 3", image.channels);
  for (const double coefficient : {map.a, map.b, map.c, map.d, map.e, map.f}) {
    VT_CHECK(std::abs(coefficient) <= 1e6, "transform: a coefficient is {}, expected -1000000 to 1000000", coefficient);
  }
  Image result(image.height, image.width);
  for (std::size_t i = 0; i < result.pixels.size(); i += 3) std::memcpy(&result.pixels[i], fill.data(), 3);
  switch (resampling) {
    case Resampling::nearest:
      sample_nearest(image, map, result);
      break;
    case Resampling::bilinear:
      sample_all(image, map, sample_bilinear, result);
      break;
    case Resampling::bicubic:
      sample_all(image, map, sample_bicubic, result);
      break;
  }
  return result;
}

}  // namespace vitrine
