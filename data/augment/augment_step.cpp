// The table of image operations: name, unit of the magnitude, and the function of
// data/augment/image_ops.h or data/image/affine.h.
#include "data/augment/augment_step.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "data/augment/image_ops.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

// Each calls `op` with what it takes of a step: nothing, the magnitude, the magnitude as an
// integer; or moves the pixels by the affine `map` of that magnitude.
template <Image (*op)(Image)>
Image run(Image image, const AugmentStep&) {
  return op(std::move(image));
}
template <Image (*op)(Image, double)>
Image run(Image image, const AugmentStep& step) {
  return op(std::move(image), step.magnitude);
}
template <Image (*op)(Image, int)>
Image run(Image image, const AugmentStep& step) {
  return op(std::move(image), static_cast<int>(step.magnitude));
}
template <Affine (*map)(double)>
Image run(Image image, const AugmentStep& step) {
  return transform(image, map(step.magnitude), step.resampling, step.fill);
}
template <Affine (*map)(double, int, int)>
Image run(Image image, const AugmentStep& step) {
  return transform(image, map(step.magnitude, image.height, image.width), step.resampling, step.fill);
}

Image unchanged(Image image) { return image; }

struct Row {
  std::string_view name;
  std::string_view unit;  // of the magnitude; empty: none
  Image (*apply)(Image image, const AugmentStep& step);
};

constexpr Row rows[] = {
    {"identity", "", run<unchanged>},
    {"auto_contrast", "", run<auto_contrast>},
    {"equalize", "", run<equalize>},
    {"invert", "", run<invert>},
    {"grayscale", "", run<grayscale>},
    {"posterize", "bits to keep, 0 to 8", run<posterize>},
    {"solarize", "threshold, 0 to 256", run<solarize>},
    {"solarize_add", "what is added, 0 to 255", run<solarize_add>},
    {"color", "factor, 1 = unchanged", run<adjust_saturation>},
    {"contrast", "factor, 1 = unchanged", run<adjust_contrast>},
    {"brightness", "factor, 1 = unchanged", run<adjust_brightness>},
    {"sharpness", "factor, 1 = unchanged", run<adjust_sharpness>},
    {"blur", "standard deviation in pixels", run<gaussian_blur>},
    {"shear_x", "pixels per pixel", run<shear_x>},
    {"shear_y", "pixels per pixel", run<shear_y>},
    {"translate_x", "pixels to the left", run<translate_x>},
    {"translate_y", "pixels upwards", run<translate_y>},
    {"rotate", "degrees, counter-clockwise", run<rotation>},
};

}  // namespace

ImageOp::ImageOp(std::string_view name) {
  const Row* found = std::ranges::find(rows, name, &Row::name);
  if (found == std::end(rows)) {
    std::vector<std::string_view> names;
    for (const Row& row : rows) names.push_back(row.name);
    throw Error(fmt::format("augmentation: operation is \"{}\", expected one of {}", name, fmt::join(names, ", ")));
  }
  row_ = static_cast<std::size_t>(found - std::begin(rows));
}

std::vector<ImageOp> ImageOp::all() {
  std::vector<ImageOp> ops;
  for (const Row& row : rows) ops.emplace_back(row.name);
  return ops;
}

std::string_view ImageOp::name() const { return rows[row_].name; }
std::string_view ImageOp::unit() const { return rows[row_].unit; }

Image apply(Image image, const AugmentStep& step) { return rows[step.op.row_].apply(std::move(image), step); }

std::string to_string(const AugmentStep& step) {
  if (step.op.unit().empty()) return std::string(step.op.name());
  return fmt::format("{} {:.3g}", step.op.name(), step.magnitude);
}

std::vector<AugmentStep> draw_color_jitter(const ColorJitter& jitter, RandomSequence& random) {
  static const ImageOp ops[] = {"brightness", "contrast", "color"};
  const double strengths[] = {jitter.brightness, jitter.contrast, jitter.saturation};
  std::array<std::size_t, 3> order = {0, 1, 2};
  for (std::size_t i = 2; i > 0; --i) {
    std::swap(order[i], order[static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(i) + 1))]);
  }
  std::array<double, 3> factor;
  for (std::size_t i = 0; i < 3; ++i) factor[i] = random.uniform(std::max(0.0, 1 - strengths[i]), 1 + strengths[i]);
  std::vector<AugmentStep> steps;
  for (const std::size_t i : order) {
    if (strengths[i] > 0) steps.push_back({ops[i], factor[i]});
  }
  return steps;
}

Image apply_color_jitter(Image image, const ColorJitter& jitter, RandomSequence& random) {
  for (const AugmentStep& step : draw_color_jitter(jitter, random)) image = apply(std::move(image), step);
  return image;
}

}  // namespace vitrine
