// The generated dataset "shapes": ten line drawings under random geometry, colour, texture, noise
// and stray lines.
//
// A drawing may be lighter or darker than its background and sits anywhere, so no linear template
// fits it: a linear model gets about one in five right. What a model has to find is how the strokes
// go.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/datasets/dataset.h"
#include "tensor/error.h"
#include "tensor/philox.h"

namespace vitrine {
namespace {

constexpr int side = 32;
constexpr float pi = std::numbers::pi_v<float>;

struct Point {
  float x = 0, y = 0;
};
using Stroke = std::vector<Point>;  // joined by straight lines
using Color = std::array<float, 3>;

/// A stroke through `count` points of the curve at(t), t from 0 to 1.
template <class Curve>
Stroke curve(int count, Curve at) {
  Stroke stroke;
  for (int i = 0; i < count; ++i) stroke.push_back(at(static_cast<float>(i) / static_cast<float>(count - 1)));
  return stroke;
}

Point on_circle(float turns, float radius = 1) {
  return {radius * std::sin(2 * pi * turns), -radius * std::cos(2 * pi * turns)};
}

struct Drawing {
  const char* name;
  std::vector<Stroke> strokes;  // within -1 ... 1, y downwards
};

const std::vector<Drawing>& drawings() {
  static const std::vector<Drawing> all = {
      {"arc", {curve(12, [](float t) { return on_circle(0.15f + 0.7f * t); })}},
      {"arrow", {{{0, 1}, {0, -1}}, {{-0.7f, -0.2f}, {0, -1}, {0.7f, -0.2f}}}},
      {"circle", {curve(17, [](float t) { return on_circle(t); })}},
      {"cross", {{{-0.9f, 0}, {0.9f, 0}}, {{0, -0.9f}, {0, 0.9f}}}},
      {"heart",
       {curve(21,
              [](float t) {
                const float angle = 2 * pi * t, sine = std::sin(angle);
                return Point{sine * sine * sine, -0.8f * std::cos(angle) + 0.35f * std::cos(2 * angle) + 0.15f};
              })}},
      {"hourglass", {{{-0.7f, -0.9f}, {0.7f, -0.9f}, {-0.7f, 0.9f}, {0.7f, 0.9f}, {-0.7f, -0.9f}}}},
      {"spiral", {curve(25, [](float t) { return on_circle(1.75f * t, 0.15f + 0.85f * t); })}},
      {"square", {{{-0.8f, -0.8f}, {0.8f, -0.8f}, {0.8f, 0.8f}, {-0.8f, 0.8f}, {-0.8f, -0.8f}}}},
      {"star", {curve(6, [](float t) { return on_circle(2 * t); })}},
      {"triangle", {{{0, -0.95f}, {0.9f, 0.7f}, {-0.9f, 0.7f}, {0, -0.95f}}}},
  };
  return all;
}

/// An image in the making, with the distance of every pixel to the nearest line of the current
/// drawing.
class Canvas {
 public:
  explicit Canvas(RandomSequence& random) : random_(random) {}

  /// A colour gradient with soft blotches.
  void paint_background(const Color& color) {
    float slope[3][2], blotch[5][5];
    for (auto& channel : slope) {
      for (float& value : channel) value = between(-20, 20);
    }
    const float strength = between(5, 30);
    for (auto& row : blotch) {
      for (float& value : row) value = strength * between(-1, 1);
    }
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) {
        const float v = static_cast<float>(y) / side, u = static_cast<float>(x) / side;
        const float soft = interpolated(blotch, 4 * v, 4 * u);
        for (std::size_t c = 0; c < 3; ++c) {
          pixel(y, x)[c] = color[c] + slope[c][0] * (v - 0.5f) + slope[c][1] * (u - 0.5f) + soft;
        }
      }
    }
  }

  /// Draws the strokes, `line_width` pixels wide with smooth edges.
  void draw(const std::vector<Stroke>& strokes, float line_width, const Color& color) {
    distance_.fill(side);
    const float reach = line_width / 2 + 1;
    for (const Stroke& stroke : strokes) {
      for (std::size_t i = 1; i < stroke.size(); ++i) measure(stroke[i - 1], stroke[i], reach);
    }
    for (std::size_t i = 0; i < distance_.size(); ++i) {
      const float cover = std::clamp(line_width / 2 + 0.5f - distance_[i], 0.0f, 1.0f);
      for (std::size_t c = 0; c < 3; ++c) pixels_[3 * i + c] += cover * (color[c] - pixels_[3 * i + c]);
    }
  }

  /// The finished bytes, with noise of up to `strength` either way on every value.
  Image finish(float strength, const Random& noise) const {
    Image image(side, side);
    for (std::size_t i = 0; i < pixels_.size(); i += 16) {
      const PhiloxBlock block = noise.block(i / 16);  // sixteen bytes of noise
      for (std::size_t k = 0; k < 16; ++k) {
        const auto byte = static_cast<float>(block.word[k / 4] >> (8 * (k % 4)) & 255u);
        const float value = pixels_[i + k] + strength * (byte / 127.5f - 1);
        image.pixels[i + k] = static_cast<std::uint8_t>(std::clamp(value, 0.0f, 255.0f) + 0.5f);
      }
    }
    return image;
  }

 private:
  float between(double low, double high) { return static_cast<float>(random_.uniform(low, high)); }
  float* pixel(int y, int x) { return pixels_.data() + 3 * (y * side + x); }

  static float interpolated(const float (&grid)[5][5], float y, float x) {
    const int i = static_cast<int>(y), j = static_cast<int>(x);
    const float down = y - static_cast<float>(i), right = x - static_cast<float>(j);
    return (1 - down) * ((1 - right) * grid[i][j] + right * grid[i][j + 1]) +
           down * ((1 - right) * grid[i + 1][j] + right * grid[i + 1][j + 1]);
  }

  /// Lowers distance_ to that from the line a-b, for pixels that are nearer to it than `reach`.
  void measure(Point a, Point b, float reach) {
    const auto low = [&](float p, float q) { return std::max(0, static_cast<int>(std::min(p, q) - reach)); };
    const auto high = [&](float p, float q) { return std::min(side - 1, static_cast<int>(std::max(p, q) + reach)); };
    const float dx = b.x - a.x, dy = b.y - a.y;
    const float inverse = 1 / std::max(dx * dx + dy * dy, 1e-6f);
    for (int y = low(a.y, b.y); y <= high(a.y, b.y); ++y) {
      for (int x = low(a.x, b.x); x <= high(a.x, b.x); ++x) {
        const float px = static_cast<float>(x) - a.x, py = static_cast<float>(y) - a.y;
        const float along = std::clamp((px * dx + py * dy) * inverse, 0.0f, 1.0f);
        const float ex = px - along * dx, ey = py - along * dy;
        float& nearest = distance_[static_cast<std::size_t>(y * side + x)];
        nearest = std::min(nearest, std::sqrt(ex * ex + ey * ey));
      }
    }
  }

  RandomSequence& random_;
  std::array<float, 3 * side* side> pixels_ = {};  // (H, W, 3), 0 to 255
  std::array<float, side* side> distance_ = {};    // (H, W)
};

float luminance(const Color& color) { return 0.3f * color[0] + 0.6f * color[1] + 0.1f * color[2]; }

Color random_color(RandomSequence& random) {
  Color color;
  for (float& value : color) value = static_cast<float>(random.uniform(0, 255));
  return color;
}

/// Turned, stretched, slanted, scaled and moved, but for the most part inside the image.
std::vector<Stroke> placed(std::vector<Stroke> strokes, RandomSequence& random) {
  const auto between = [&](double low, double high) { return static_cast<float>(random.uniform(low, high)); };
  const float angle = between(-0.35, 0.35), slant = between(-0.15, 0.15);
  const float radius = between(9, 13.5), stretch = between(0.8, 1.25);
  const float room = side / 2.0f - radius;
  const float center_x = side / 2.0f - 0.5f + between(-1, 1) * room,
              center_y = side / 2.0f - 0.5f + between(-1, 1) * room;
  const float cosine = std::cos(angle), sine = std::sin(angle);
  for (Stroke& stroke : strokes) {
    for (Point& point : stroke) {
      const float x = radius * (stretch * point.x + slant * point.y), y = radius * point.y / stretch;
      point = {center_x + cosine * x - sine * y, center_y + sine * x + cosine * y};
    }
  }
  return strokes;
}

Stroke stray_line(RandomSequence& random) {
  const float x = static_cast<float>(random.uniform(0, side)), y = static_cast<float>(random.uniform(0, side));
  const float angle = static_cast<float>(random.uniform(0, 2 * pi)), length = static_cast<float>(random.uniform(4, 12));
  return {{x, y}, {x + length * std::cos(angle), y + length * std::sin(angle)}};
}

class Shapes : public Dataset {
 public:
  Shapes(std::int64_t size, const std::string& split, std::uint64_t seed) : size_(size), split_(split), seed_(seed) {
    VT_CHECK(size > 0 && size < (std::int64_t{1} << 32), "shapes: {} samples, expected 1 to 2^32 - 1", size);
    for (const Drawing& drawing : drawings()) class_names_.emplace_back(drawing.name);
  }

  std::int64_t size() const override { return size_; }
  std::string name(std::int64_t index) const override { return fmt::format("shapes/{}/{}", split_, index); }

  Sample get(std::int64_t index) const override {
    VT_CHECK(index >= 0 && index < size_, "dataset: no sample {}, there are {}", index, size_);
    const std::uint64_t stream = (split_ == "train" ? 0 : std::uint64_t{1} << 40) | static_cast<std::uint64_t>(index);
    RandomSequence random(seed_, Purpose::generated_data, stream);
    const std::int64_t label = random.integer(num_classes());
    Color background = random_color(random), ink = random_color(random);
    while (std::abs(luminance(ink) - luminance(background)) < 100) {  // both anew, so that no brightness is favoured
      background = random_color(random);
      ink = random_color(random);
    }

    Canvas canvas(random);
    canvas.paint_background(background);
    for (std::int64_t strays = random.integer(3); strays > 0; --strays) {
      const float line_width = static_cast<float>(random.uniform(0.8, 1.8));
      canvas.draw({stray_line(random)}, line_width, random_color(random));
    }
    const float line_width = static_cast<float>(random.uniform(1.8, 3.2));
    canvas.draw(placed(drawings()[static_cast<std::size_t>(label)].strokes, random), line_width, ink);
    const float noise_strength = static_cast<float>(random.uniform(2, 20));
    const std::uint64_t noise_stream = stream | std::uint64_t{1} << 41;
    return {canvas.finish(noise_strength, {seed_, Purpose::generated_data, noise_stream}), label};
  }

 private:
  std::int64_t size_;
  std::string split_;
  std::uint64_t seed_;
};

}  // namespace

DatasetPtr make_shapes(std::int64_t size, const std::string& split, std::uint64_t seed) {
  check_split("shapes", split);
  return std::make_shared<Shapes>(size, split, seed);
}

}  // namespace vitrine
