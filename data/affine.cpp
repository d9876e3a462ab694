// Sampling under an affine map. Compiled without fused multiply-add (data/CMakeLists.txt): Pillow rounds products and
// sums one by one, and a coordinate that falls to the other side of a border takes another pixel.
#include "data/affine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "tensor/error.h"

namespace vitrine {
namespace {

/// A coordinate along one axis: the lower of the two pixels whose centres enclose it, and how far it lies behind that
/// centre.
struct Position {
  int pixel;
  double fraction;

  explicit Position(double coordinate) : pixel(static_cast<int>(std::floor(coordinate - 0.5))) {
    fraction = coordinate - 0.5 - pixel;
  }
};

int clamped(int i, int count) { return std::clamp(i, 0, count - 1); }

double linear(double v0, double v1, double fraction) { return v0 + (v1 - v0) * fraction; }

/// Through v1 at 0 and v2 at 1.
double cubic(double v0, double v1, double v2, double v3, double fraction) {
  const double first = v2 - v0, second = 2 * (v0 - v1) + v2 - v3, third = -v0 + v1 - v2 + v3;
  return v1 + fraction * (first + fraction * (second + fraction * third));
}

void sample_bilinear(const Image& image, Position x, Position y, std::uint8_t* output) {
  const int rows[2] = {clamped(y.pixel, image.height), clamped(y.pixel + 1, image.height)};
  const int left = clamped(x.pixel, image.width), right = clamped(x.pixel + 1, image.width);
  for (int c = 0; c < 3; ++c) {
    double value[2];
    for (int i = 0; i < 2; ++i) value[i] = linear(image.at(rows[i], left)[c], image.at(rows[i], right)[c], x.fraction);
    output[c] = static_cast<std::uint8_t>(linear(value[0], value[1], y.fraction));
  }
}

void sample_bicubic(const Image& image, Position x, Position y, std::uint8_t* output) {
  const std::uint8_t* pixels[4][4];  // a row and a column before, two of each behind
  for (int i = 0; i < 4; ++i) {
    const std::uint8_t* row = image.at(clamped(y.pixel + i - 1, image.height), 0);
    for (int j = 0; j < 4; ++j) pixels[i][j] = row + 3 * clamped(x.pixel + j - 1, image.width);
  }
  for (int c = 0; c < 3; ++c) {
    const auto along_row = [&](const std::uint8_t* const* p) {
      return cubic(p[0][c], p[1][c], p[2][c], p[3][c], x.fraction);
    };
    // At fraction 0 the cubic is exactly v1: shears and shifts along x need one row of the four.
    const double value = y.fraction == 0 ? along_row(pixels[1])
                                         : cubic(along_row(pixels[0]), along_row(pixels[1]), along_row(pixels[2]),
                                                 along_row(pixels[3]), y.fraction);
    output[c] = static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0));
  }
}

/// Calls sample(x', y', output) for every pixel of `result` whose point lies inside the image.
template <class Sample>
void sample_all(const Image& image, const Affine& map, Sample&& sample, Image& result) {
  for (int y = 0; y < result.height; ++y) {
    std::uint8_t* output = result.at(y, 0);
    const double row = y + 0.5;
    for (int x = 0; x < result.width; ++x, output += 3) {
      const double column = x + 0.5;
      const double from_x = map.a * column + map.b * row + map.c, from_y = map.d * column + map.e * row + map.f;
      if (from_x >= 0 && from_x < image.width && from_y >= 0 && from_y < image.height) sample(from_x, from_y, output);
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
      sample_all(
          image, map,
          [&](double x, double y, std::uint8_t* output) { sample_bilinear(image, Position(x), Position(y), output); },
          result);
      break;
    case Resampling::bicubic:
      sample_all(
          image, map,
          [&](double x, double y, std::uint8_t* output) { sample_bicubic(image, Position(x), Position(y), output); },
          result);
      break;
  }
  return result;
}

}  // namespace vitrine
