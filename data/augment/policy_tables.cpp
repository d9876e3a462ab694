// Tables, as published; nothing is computed here but magnitudes.
#include "data/augment/policy_tables.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace vitrine {
namespace {

using Context = AugmentContext;

double either_sign(double magnitude, RandomSequence& random) { return random.chance(0.5) ? -magnitude : magnitude; }

// ---- The magnitude at a level: timm's, then torchvision's ----

double rotate_30(double level, const Context&, RandomSequence& random) { return either_sign(level * 30, random); }
double shear_30(double level, const Context&, RandomSequence& random) { return either_sign(level * 0.3, random); }

double keep_up_to_4(double level, const Context&, RandomSequence&) { return std::min(8.0, std::trunc(level * 4)); }
double keep_4_to_8(double level, const Context&, RandomSequence&) { return std::min(8.0, std::trunc(level * 4) + 4); }
double keep_4_to_0(double level, const Context&, RandomSequence&) { return std::max(0.0, 4 - std::trunc(level * 4)); }
double threshold_up(double level, const Context&, RandomSequence&) { return std::min(256.0, std::trunc(level * 256)); }
double threshold_down(double level, const Context&, RandomSequence&) {
  return 256 - std::min(256.0, std::trunc(level * 256));
}
double add_110(double level, const Context&, RandomSequence&) { return std::min(128.0, std::trunc(level * 110)); }
double factor_up(double level, const Context&, RandomSequence&) { return level * 1.8 + 0.1; }
double factor_away(double level, const Context&, RandomSequence& random) {
  return std::max(0.1, 1 + either_sign(level * 0.9, random));
}
double shift_x(double level, const Context& image, RandomSequence& random) {
  return either_sign(level * 0.45, random) * image.width;
}
double shift_y(double level, const Context& image, RandomSequence& random) {
  return either_sign(level * 0.45, random) * image.height;
}
double blur_2(double level, const Context&, RandomSequence& random) {
  return random.uniform(0.1, 2 * std::clamp(level, 0.0, 1.0));
}

double rotate_135(double level, const Context&, RandomSequence& random) { return either_sign(level * 135, random); }
double shear_99(double level, const Context&, RandomSequence& random) { return either_sign(level * 0.99, random); }
double keep_8_to_4(double level, const Context&, RandomSequence&) { return 8 - std::nearbyint(level * 4); }
double keep_8_to_2(double level, const Context&, RandomSequence&) { return 8 - std::nearbyint(level * 6); }
double threshold_255(double level, const Context&, RandomSequence&) { return 255 - level * 255; }
double factor_90(double level, const Context&, RandomSequence& random) { return 1 + either_sign(level * 0.9, random); }
double factor_99(double level, const Context&, RandomSequence& random) { return 1 + either_sign(level * 0.99, random); }
double pixels_x(double level, const Context& image, RandomSequence& random) {
  return either_sign(std::trunc(level * 150 / 331 * image.width), random);
}
double pixels_y(double level, const Context& image, RandomSequence& random) {
  return either_sign(std::trunc(level * 150 / 331 * image.height), random);
}
double pixels_32(double level, const Context&, RandomSequence& random) {
  return either_sign(std::trunc(level * 32), random);
}

/// What each scale makes of a level; null where no policy of that scale has the operation.
struct LevelRow {
  std::string_view op;
  LevelFunction timm, timm_increasing, torchvision, torchvision_wide;
};

constexpr LevelRow level_rows[] = {
    {"rotate", rotate_30, rotate_30, rotate_30, rotate_135},
    {"posterize", keep_up_to_4, keep_4_to_0, keep_8_to_4, keep_8_to_2},
    {"solarize", threshold_up, threshold_down, threshold_255, threshold_255},
    {"solarize_add", add_110, add_110, nullptr, nullptr},
    {"color", factor_up, factor_away, factor_90, factor_99},
    {"contrast", factor_up, factor_away, factor_90, factor_99},
    {"brightness", factor_up, factor_away, factor_90, factor_99},
    {"sharpness", factor_up, factor_away, factor_90, factor_99},
    {"shear_x", shear_30, shear_30, shear_30, shear_99},
    {"shear_y", shear_30, shear_30, shear_30, shear_99},
    {"translate_x", shift_x, shift_x, pixels_x, pixels_32},
    {"translate_y", shift_y, shift_y, pixels_y, pixels_32},
    {"blur", blur_2, nullptr, nullptr, nullptr},
};

LevelFunction magnitude_function(MagnitudeScale scale, const LevelRow& row) {
  const bool posterize = row.op == "posterize";
  switch (scale) {
    case MagnitudeScale::timm:
      return row.timm;
    case MagnitudeScale::timm_increasing:
      return row.timm_increasing;
    case MagnitudeScale::timm_original:
      return posterize ? keep_4_to_8 : row.timm;
    case MagnitudeScale::timm_research:
      return posterize ? row.timm_increasing : row.timm;
    case MagnitudeScale::torchvision:
      return row.torchvision;
    case MagnitudeScale::torchvision_wide:
      return row.torchvision_wide;
  }
  return nullptr;
}

/// One row of the papers' tables: two operations, each with its probability and its m of 10.
struct Pair {
  const char* first;
  double first_probability, first_m;
  const char* second;
  double second_probability, second_m;
};

// Cubuk et al. (2019), table 9. Operations without a magnitude have 0 here.
constexpr Pair imagenet_pairs[25] = {
    {"posterize", 0.4, 8, "rotate", 0.6, 9},  {"solarize", 0.6, 5, "auto_contrast", 0.6, 0},
    {"equalize", 0.8, 0, "equalize", 0.6, 0}, {"posterize", 0.6, 7, "posterize", 0.6, 6},
    {"equalize", 0.4, 0, "solarize", 0.2, 4}, {"equalize", 0.4, 0, "rotate", 0.8, 8},
    {"solarize", 0.6, 3, "equalize", 0.6, 0}, {"posterize", 0.8, 5, "equalize", 1.0, 0},
    {"rotate", 0.2, 3, "solarize", 0.6, 8},   {"equalize", 0.6, 0, "posterize", 0.4, 6},
    {"rotate", 0.8, 8, "color", 0.4, 0},      {"rotate", 0.4, 9, "equalize", 0.6, 0},
    {"equalize", 0.0, 0, "equalize", 0.8, 0}, {"invert", 0.6, 0, "equalize", 1.0, 0},
    {"color", 0.6, 4, "contrast", 1.0, 8},    {"rotate", 0.8, 8, "color", 1.0, 2},
    {"color", 0.8, 8, "solarize", 0.8, 7},    {"sharpness", 0.4, 7, "invert", 0.6, 0},
    {"shear_x", 0.6, 5, "equalize", 1.0, 0},  {"color", 0.4, 0, "equalize", 0.6, 0},
    {"equalize", 0.4, 0, "solarize", 0.2, 4}, {"solarize", 0.6, 5, "auto_contrast", 0.6, 0},
    {"invert", 0.6, 0, "equalize", 1.0, 0},   {"color", 0.6, 4, "contrast", 1.0, 8},
    {"equalize", 0.8, 0, "equalize", 0.6, 0},
};

// The policy "v0" of Google's EfficientNet code.
constexpr Pair efficientnet_pairs[25] = {
    {"equalize", 0.8, 0, "shear_y", 0.8, 4},
    {"color", 0.4, 9, "equalize", 0.6, 0},
    {"color", 0.4, 1, "rotate", 0.6, 8},
    {"solarize", 0.8, 3, "equalize", 0.4, 0},
    {"solarize", 0.4, 2, "solarize", 0.6, 2},
    {"color", 0.2, 0, "equalize", 0.8, 0},
    {"equalize", 0.4, 0, "solarize_add", 0.8, 3},
    {"shear_x", 0.2, 9, "rotate", 0.6, 8},
    {"color", 0.6, 1, "equalize", 1.0, 0},
    {"invert", 0.4, 0, "rotate", 0.6, 0},
    {"equalize", 1.0, 0, "shear_y", 0.6, 3},
    {"color", 0.4, 7, "equalize", 0.6, 0},
    {"posterize", 0.4, 6, "auto_contrast", 0.4, 0},
    {"solarize", 0.6, 8, "color", 0.6, 9},
    {"solarize", 0.2, 4, "rotate", 0.8, 9},
    {"rotate", 1.0, 7, "translate_y", 0.8, 9},
    {"shear_x", 0.0, 0, "solarize", 0.8, 4},
    {"shear_y", 0.8, 0, "color", 0.6, 4},
    {"color", 1.0, 0, "rotate", 0.6, 2},
    {"equalize", 0.8, 0, "equalize", 0.0, 0},
    {"equalize", 1.0, 0, "auto_contrast", 0.6, 0},
    {"shear_y", 0.4, 7, "solarize_add", 0.6, 7},
    {"posterize", 0.8, 2, "solarize", 0.6, 10},
    {"solarize", 0.6, 8, "equalize", 0.6, 0},
    {"color", 0.8, 6, "rotate", 0.4, 5},
};

// Cubuk et al. (2019), table 7.
constexpr Pair cifar10_pairs[25] = {
    {"invert", 0.1, 0, "contrast", 0.2, 6},           {"rotate", 0.7, 2, "translate_x", 0.3, 9},
    {"sharpness", 0.8, 1, "sharpness", 0.9, 3},       {"shear_y", 0.5, 8, "translate_y", 0.7, 9},
    {"auto_contrast", 0.5, 0, "equalize", 0.9, 0},    {"shear_y", 0.2, 7, "posterize", 0.3, 7},
    {"color", 0.4, 3, "brightness", 0.6, 7},          {"sharpness", 0.3, 9, "brightness", 0.7, 9},
    {"equalize", 0.6, 0, "equalize", 0.5, 0},         {"contrast", 0.6, 7, "sharpness", 0.6, 5},
    {"color", 0.7, 7, "translate_x", 0.5, 8},         {"equalize", 0.3, 0, "auto_contrast", 0.4, 0},
    {"translate_y", 0.4, 3, "sharpness", 0.2, 6},     {"brightness", 0.9, 6, "color", 0.2, 8},
    {"solarize", 0.5, 2, "invert", 0.0, 0},           {"equalize", 0.2, 0, "auto_contrast", 0.6, 0},
    {"equalize", 0.2, 0, "equalize", 0.6, 0},         {"color", 0.9, 9, "equalize", 0.6, 0},
    {"auto_contrast", 0.8, 0, "solarize", 0.2, 8},    {"brightness", 0.1, 3, "color", 0.7, 0},
    {"solarize", 0.4, 5, "auto_contrast", 0.9, 0},    {"translate_y", 0.9, 9, "translate_y", 0.7, 9},
    {"auto_contrast", 0.9, 0, "solarize", 0.8, 3},    {"equalize", 0.8, 0, "invert", 0.1, 0},
    {"translate_y", 0.7, 9, "auto_contrast", 0.9, 0},
};

}  // namespace

PolicyEntry policy_entry(MagnitudeScale scale, ImageOp op, double probability, double m) {
  if (op.unit().empty()) return {op, nullptr, probability, m};
  const LevelRow* row = std::ranges::find(level_rows, op.name(), &LevelRow::op);
  const LevelFunction magnitude_at = row == std::end(level_rows) ? nullptr : magnitude_function(scale, *row);
  VT_CHECK(magnitude_at, "augmentation policy: {} has no magnitude in this scale, expected one in level_rows",
           op.name());
  return {op, magnitude_at, probability, m};
}

const std::vector<ImageOp>& timm_operations() {
  static const std::vector<ImageOp> list = {"auto_contrast", "equalize",     "invert",  "rotate",      "posterize",
                                            "solarize",      "solarize_add", "color",   "contrast",    "brightness",
                                            "sharpness",     "shear_x",      "shear_y", "translate_x", "translate_y"};
  return list;
}

const std::vector<ImageOp>& torchvision_operations() {
  static const std::vector<ImageOp> list = {"identity",  "shear_x",    "shear_y",       "translate_x", "translate_y",
                                            "rotate",    "brightness", "color",         "contrast",    "sharpness",
                                            "posterize", "solarize",   "auto_contrast", "equalize"};
  return list;
}

std::vector<std::vector<PolicyEntry>> auto_augment_pairs(AutoAugmentTable table, MagnitudeScale scale) {
  const Pair* pairs = table == AutoAugmentTable::imagenet       ? imagenet_pairs
                      : table == AutoAugmentTable::efficientnet ? efficientnet_pairs
                                                                : cifar10_pairs;
  std::vector<std::vector<PolicyEntry>> choices;
  for (int i = 0; i < 25; ++i) {
    const Pair& pair = pairs[i];
    choices.push_back({policy_entry(scale, pair.first, pair.first_probability, pair.first_m),
                       policy_entry(scale, pair.second, pair.second_probability, pair.second_m)});
  }
  return choices;
}

std::vector<std::vector<PolicyEntry>> three_augment_choices() {
  return {{policy_entry(MagnitudeScale::timm, "solarize", 1, 5)},  // 5 of 10: threshold 128
          {policy_entry(MagnitudeScale::timm, "grayscale", 1, 0)},
          {policy_entry(MagnitudeScale::timm, "blur", 1, 10)}};
}

}  // namespace vitrine
