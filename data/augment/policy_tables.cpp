// Tables, as published; nothing is computed here but amounts.
#include "data/augment/policy_tables.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace vitrine {
namespace {

using Surroundings = AugmentSurroundings;
using Strength = AugmentPolicy::Strength;
using Entry = AugmentPolicy::Entry;

double either_sign(double amount, RandomSequence& random) { return random.chance(0.5) ? -amount : amount; }

int whole(double value) { return static_cast<int>(value); }  // towards zero, as int() in Python

/// timm: magnitude m of 10, share = m / 10.
Strength timm_strength(ImageOp op) {
  switch (op) {
    case ImageOp::rotate:
      return [](double share, const Surroundings&, RandomSequence& random) { return either_sign(share * 30, random); };
    case ImageOp::posterize:
      return [](double share, const Surroundings&, RandomSequence&) { return std::min(8.0, std::trunc(share * 4)); };
    case ImageOp::solarize:
      return
          [](double share, const Surroundings&, RandomSequence&) { return std::min(256.0, std::trunc(share * 256)); };
    case ImageOp::solarize_add:
      return
          [](double share, const Surroundings&, RandomSequence&) { return std::min(128.0, std::trunc(share * 110)); };
    case ImageOp::color:
    case ImageOp::contrast:
    case ImageOp::brightness:
    case ImageOp::sharpness:
      return [](double share, const Surroundings&, RandomSequence&) { return share * 1.8 + 0.1; };
    case ImageOp::shear_x:
    case ImageOp::shear_y:
      return [](double share, const Surroundings&, RandomSequence& random) { return either_sign(share * 0.3, random); };
    case ImageOp::translate_x:
      return [](double share, const Surroundings& image, RandomSequence& random) {
        return either_sign(share * 0.45, random) * image.width;
      };
    case ImageOp::translate_y:
      return [](double share, const Surroundings& image, RandomSequence& random) {
        return either_sign(share * 0.45, random) * image.height;
      };
    default:
      return nullptr;
  }
}

/// timm's "Increasing" variants, where they differ.
Strength timm_increasing_strength(ImageOp op) {
  switch (op) {
    case ImageOp::posterize:
      return
          [](double share, const Surroundings&, RandomSequence&) { return std::max(0.0, 4 - std::trunc(share * 4)); };
    case ImageOp::solarize:
      return [](double share, const Surroundings&, RandomSequence&) {
        return 256 - std::min(256.0, std::trunc(share * 256));
      };
    case ImageOp::color:
    case ImageOp::contrast:
    case ImageOp::brightness:
    case ImageOp::sharpness:
      return [](double share, const Surroundings&, RandomSequence& random) {
        return std::max(0.1, 1 + either_sign(share * 0.9, random));
      };
    default:
      return timm_strength(op);
  }
}

Strength paper_posterize() {
  return [](double share, const Surroundings&, RandomSequence&) { return std::min(8.0, std::trunc(share * 4) + 4); };
}

/// torchvision: bin m of 30 (RandAugment) or 9 (AutoAugment), share = m / 30 or m / 9.
Strength torchvision_strength(ImageOp op) {
  switch (op) {
    case ImageOp::rotate:
      return [](double share, const Surroundings&, RandomSequence& random) { return either_sign(share * 30, random); };
    case ImageOp::posterize:
      return [](double share, const Surroundings&, RandomSequence&) { return 8 - std::nearbyint(share * 4); };
    case ImageOp::solarize:
      return [](double share, const Surroundings&, RandomSequence&) { return 255 - share * 255; };
    case ImageOp::color:
    case ImageOp::contrast:
    case ImageOp::brightness:
    case ImageOp::sharpness:
      return [](double share, const Surroundings&, RandomSequence& random) {
        return 1 + either_sign(share * 0.9, random);
      };
    case ImageOp::shear_x:
    case ImageOp::shear_y:
      return [](double share, const Surroundings&, RandomSequence& random) { return either_sign(share * 0.3, random); };
    case ImageOp::translate_x:
      return [](double share, const Surroundings& image, RandomSequence& random) {
        return either_sign(std::trunc(share * 150 / 331 * image.width), random);
      };
    case ImageOp::translate_y:
      return [](double share, const Surroundings& image, RandomSequence& random) {
        return either_sign(std::trunc(share * 150 / 331 * image.height), random);
      };
    default:
      return nullptr;
  }
}

/// TrivialAugmentWide: one bin of 0 to 30, share = bin / 30.
Strength wide_strength(ImageOp op) {
  switch (op) {
    case ImageOp::rotate:
      return [](double share, const Surroundings&, RandomSequence& random) { return either_sign(share * 135, random); };
    case ImageOp::posterize:
      return [](double share, const Surroundings&, RandomSequence&) { return 8 - std::nearbyint(share * 6); };
    case ImageOp::color:
    case ImageOp::contrast:
    case ImageOp::brightness:
    case ImageOp::sharpness:
      return [](double share, const Surroundings&, RandomSequence& random) {
        return 1 + either_sign(share * 0.99, random);
      };
    case ImageOp::shear_x:
    case ImageOp::shear_y:
      return
          [](double share, const Surroundings&, RandomSequence& random) { return either_sign(share * 0.99, random); };
    case ImageOp::translate_x:
    case ImageOp::translate_y:
      return [](double share, const Surroundings&, RandomSequence& random) {
        return either_sign(std::trunc(share * 32), random);
      };
    default:
      return torchvision_strength(op);
  }
}

Strength strength_of(MagnitudeScale scale, ImageOp op) {
  switch (scale) {
    case MagnitudeScale::timm:
      return timm_strength(op);
    case MagnitudeScale::timm_increasing:
      return timm_increasing_strength(op);
    case MagnitudeScale::timm_original:
      return op == ImageOp::posterize ? paper_posterize() : timm_strength(op);
    case MagnitudeScale::timm_research:
      return op == ImageOp::posterize ? timm_increasing_strength(op) : timm_strength(op);
    case MagnitudeScale::torchvision:
      return torchvision_strength(op);
    case MagnitudeScale::torchvision_wide:
      return wide_strength(op);
  }
  throw Error(fmt::format("augmentation policy: no scale has the number {}", whole(static_cast<double>(scale))));
}

/// One row of the papers' tables: two operations, each with its probability and magnitude.
struct Pair {
  ImageOp first;
  double first_probability, first_magnitude;
  ImageOp second;
  double second_probability, second_magnitude;
};

using enum ImageOp;

// Cubuk et al. (2019), table 9. Operations without a magnitude have 0 here.
constexpr Pair imagenet_pairs[25] = {
    {posterize, 0.4, 8, rotate, 0.6, 9},  {solarize, 0.6, 5, auto_contrast, 0.6, 0},
    {equalize, 0.8, 0, equalize, 0.6, 0}, {posterize, 0.6, 7, posterize, 0.6, 6},
    {equalize, 0.4, 0, solarize, 0.2, 4}, {equalize, 0.4, 0, rotate, 0.8, 8},
    {solarize, 0.6, 3, equalize, 0.6, 0}, {posterize, 0.8, 5, equalize, 1.0, 0},
    {rotate, 0.2, 3, solarize, 0.6, 8},   {equalize, 0.6, 0, posterize, 0.4, 6},
    {rotate, 0.8, 8, color, 0.4, 0},      {rotate, 0.4, 9, equalize, 0.6, 0},
    {equalize, 0.0, 0, equalize, 0.8, 0}, {invert, 0.6, 0, equalize, 1.0, 0},
    {color, 0.6, 4, contrast, 1.0, 8},    {rotate, 0.8, 8, color, 1.0, 2},
    {color, 0.8, 8, solarize, 0.8, 7},    {sharpness, 0.4, 7, invert, 0.6, 0},
    {shear_x, 0.6, 5, equalize, 1.0, 0},  {color, 0.4, 0, equalize, 0.6, 0},
    {equalize, 0.4, 0, solarize, 0.2, 4}, {solarize, 0.6, 5, auto_contrast, 0.6, 0},
    {invert, 0.6, 0, equalize, 1.0, 0},   {color, 0.6, 4, contrast, 1.0, 8},
    {equalize, 0.8, 0, equalize, 0.6, 0},
};

// The policy "v0" of Google's EfficientNet code.
constexpr Pair efficientnet_pairs[25] = {
    {equalize, 0.8, 0, shear_y, 0.8, 4},
    {color, 0.4, 9, equalize, 0.6, 0},
    {color, 0.4, 1, rotate, 0.6, 8},
    {solarize, 0.8, 3, equalize, 0.4, 0},
    {solarize, 0.4, 2, solarize, 0.6, 2},
    {color, 0.2, 0, equalize, 0.8, 0},
    {equalize, 0.4, 0, solarize_add, 0.8, 3},
    {shear_x, 0.2, 9, rotate, 0.6, 8},
    {color, 0.6, 1, equalize, 1.0, 0},
    {invert, 0.4, 0, rotate, 0.6, 0},
    {equalize, 1.0, 0, shear_y, 0.6, 3},
    {color, 0.4, 7, equalize, 0.6, 0},
    {posterize, 0.4, 6, auto_contrast, 0.4, 0},
    {solarize, 0.6, 8, color, 0.6, 9},
    {solarize, 0.2, 4, rotate, 0.8, 9},
    {rotate, 1.0, 7, translate_y, 0.8, 9},
    {shear_x, 0.0, 0, solarize, 0.8, 4},
    {shear_y, 0.8, 0, color, 0.6, 4},
    {color, 1.0, 0, rotate, 0.6, 2},
    {equalize, 0.8, 0, equalize, 0.0, 0},
    {equalize, 1.0, 0, auto_contrast, 0.6, 0},
    {shear_y, 0.4, 7, solarize_add, 0.6, 7},
    {posterize, 0.8, 2, solarize, 0.6, 10},
    {solarize, 0.6, 8, equalize, 0.6, 0},
    {color, 0.8, 6, rotate, 0.4, 5},
};

// Cubuk et al. (2019), table 7.
constexpr Pair cifar10_pairs[25] = {
    {invert, 0.1, 0, contrast, 0.2, 6},           {rotate, 0.7, 2, translate_x, 0.3, 9},
    {sharpness, 0.8, 1, sharpness, 0.9, 3},       {shear_y, 0.5, 8, translate_y, 0.7, 9},
    {auto_contrast, 0.5, 0, equalize, 0.9, 0},    {shear_y, 0.2, 7, posterize, 0.3, 7},
    {color, 0.4, 3, brightness, 0.6, 7},          {sharpness, 0.3, 9, brightness, 0.7, 9},
    {equalize, 0.6, 0, equalize, 0.5, 0},         {contrast, 0.6, 7, sharpness, 0.6, 5},
    {color, 0.7, 7, translate_x, 0.5, 8},         {equalize, 0.3, 0, auto_contrast, 0.4, 0},
    {translate_y, 0.4, 3, sharpness, 0.2, 6},     {brightness, 0.9, 6, color, 0.2, 8},
    {solarize, 0.5, 2, invert, 0.0, 0},           {equalize, 0.2, 0, auto_contrast, 0.6, 0},
    {equalize, 0.2, 0, equalize, 0.6, 0},         {color, 0.9, 9, equalize, 0.6, 0},
    {auto_contrast, 0.8, 0, solarize, 0.2, 8},    {brightness, 0.1, 3, color, 0.7, 0},
    {solarize, 0.4, 5, auto_contrast, 0.9, 0},    {translate_y, 0.9, 9, translate_y, 0.7, 9},
    {auto_contrast, 0.9, 0, solarize, 0.8, 3},    {equalize, 0.8, 0, invert, 0.1, 0},
    {translate_y, 0.7, 9, auto_contrast, 0.9, 0},
};

}  // namespace

Entry policy_entry(MagnitudeScale scale, ImageOp op, double probability, double magnitude) {
  return {op, strength_of(scale, op), probability, magnitude};
}

const std::vector<ImageOp>& timm_operations() {
  using enum ImageOp;
  static const std::vector<ImageOp> list = {auto_contrast, equalize,     invert,  rotate,      posterize,
                                            solarize,      solarize_add, color,   contrast,    brightness,
                                            sharpness,     shear_x,      shear_y, translate_x, translate_y};
  return list;
}

const std::vector<ImageOp>& torchvision_operations() {
  using enum ImageOp;
  static const std::vector<ImageOp> list = {identity,  shear_x,    shear_y,       translate_x, translate_y,
                                            rotate,    brightness, color,         contrast,    sharpness,
                                            posterize, solarize,   auto_contrast, equalize};
  return list;
}

std::vector<std::vector<Entry>> auto_augment_pairs(AutoAugmentTable table, MagnitudeScale scale) {
  const Pair* pairs = table == AutoAugmentTable::imagenet       ? imagenet_pairs
                      : table == AutoAugmentTable::efficientnet ? efficientnet_pairs
                                                                : cifar10_pairs;
  std::vector<std::vector<Entry>> choices;
  for (int i = 0; i < 25; ++i) {
    const Pair& pair = pairs[i];
    choices.push_back({policy_entry(scale, pair.first, pair.first_probability, pair.first_magnitude),
                       policy_entry(scale, pair.second, pair.second_probability, pair.second_magnitude)});
  }
  return choices;
}

std::vector<std::vector<Entry>> three_augment_choices() {
  const Strength radius = [](double share, const Surroundings&, RandomSequence& random) {
    return random.uniform(0.1, 2 * std::clamp(share, 0.0, 1.0));
  };
  return {{policy_entry(MagnitudeScale::timm, ImageOp::solarize, 1, 5)},  // 5 of 10: threshold 128
          {policy_entry(MagnitudeScale::timm, ImageOp::grayscale, 1, 0)},
          {Entry{ImageOp::blur, radius, 1, 10}}};
}

}  // namespace vitrine
