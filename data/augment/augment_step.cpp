// Each operation by its name.
#include "data/augment/augment_step.h"

#include <array>

#include "data/augment/image_ops.h"
#include "data/augment/transforms.h"
#include "tensor/error.h"

namespace vitrine {

std::string_view name_of(ImageOp op) {
  static constexpr std::array<std::string_view, 18> names = {
      "identity", "auto_contrast", "equalize", "invert",      "grayscale",   "posterize",
      "solarize", "solarize_add",  "color",    "contrast",    "brightness",  "sharpness",
      "blur",     "shear_x",       "shear_y",  "translate_x", "translate_y", "rotate"};
  return names.at(static_cast<std::size_t>(op));
}

Image apply(Image image, const AugmentStep& step) {
  const double amount = step.amount;
  const auto mapped = [&](const Affine& map) { return transform(image, map, step.resampling, step.fill); };
  switch (step.op) {
    case ImageOp::identity:
      return image;
    case ImageOp::auto_contrast:
      return auto_contrast(std::move(image));
    case ImageOp::equalize:
      return equalize(std::move(image));
    case ImageOp::invert:
      return invert(std::move(image));
    case ImageOp::grayscale:
      return grayscale(std::move(image));
    case ImageOp::posterize:
      return posterize(std::move(image), static_cast<int>(amount));
    case ImageOp::solarize:
      return solarize(std::move(image), amount);
    case ImageOp::solarize_add:
      return solarize_add(std::move(image), static_cast<int>(amount));
    case ImageOp::color:
      return adjust_saturation(std::move(image), amount);
    case ImageOp::contrast:
      return adjust_contrast(std::move(image), amount);
    case ImageOp::brightness:
      return adjust_brightness(std::move(image), amount);
    case ImageOp::sharpness:
      return adjust_sharpness(std::move(image), amount);
    case ImageOp::blur:
      return gaussian_blur(std::move(image), amount);
    case ImageOp::shear_x:
      return mapped(shear_x(amount));
    case ImageOp::shear_y:
      return mapped(shear_y(amount));
    case ImageOp::translate_x:
      return mapped(translate_x(amount));
    case ImageOp::translate_y:
      return mapped(translate_y(amount));
    case ImageOp::rotate:
      return mapped(rotation(amount, image.height, image.width));
  }
  throw Error(fmt::format("augmentation: no operation has the number {}", static_cast<int>(step.op)));
}

std::string to_string(const AugmentStep& step) {
  if (step.op <= ImageOp::grayscale) return std::string(name_of(step.op));
  return fmt::format("{} {:.3g}", name_of(step.op), step.amount);
}

std::vector<AugmentStep> draw_color_jitter(const ColorJitter& jitter, RandomSequence& random) {
  const double strengths[] = {jitter.brightness, jitter.contrast, jitter.saturation};
  const ImageOp ops[] = {ImageOp::brightness, ImageOp::contrast, ImageOp::color};
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

}  // namespace vitrine
