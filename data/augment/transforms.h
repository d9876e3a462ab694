// Transforms: from an image of any size to the normalised floats that a model reads, with or
// without augmentation.
//
//   TrainTransform train{.image_size = 32, .crop = TrainTransform::Crop::padded};
//   std::vector<float> pixels(3 * 32 * 32);
//   RandomSequence random(seed, Purpose::augmentation, stream);
//   train(image, random, pixels.data());            // (3, H, W)
//
// The steps have the order and the meaning of timm and torchvision: crop, flip, augmentation
// policy, colour jitter, normalise, erase.
#pragma once

#include <array>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "data/augment/augment_step.h"
#include "data/augment/policy.h"
#include "data/image/image.h"
#include "data/image/pixel.h"
#include "data/image/resize.h"
#include "tensor/philox.h"

namespace vitrine {

/// value = (byte / 255 - mean) / std, for red, green and blue.
struct Normalization {
  std::array<float, 3> mean = {0.5f, 0.5f, 0.5f};
  std::array<float, 3> std = {0.5f, 0.5f, 0.5f};
};

inline constexpr Normalization imagenet_normalization{{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
inline constexpr Normalization cifar_normalization{{0.4914f, 0.4822f, 0.4465f}, {0.2470f, 0.2435f, 0.2616f}};

/// A pair low <= high.
using Range = std::pair<double, double>;

/// Random Erasing (Zhong et al. 2017), as timm does it after normalisation: with `probability`, 1
/// to `count` boxes of a share of the area drawn from `area` (divided by their number) and a
/// log-uniform aspect ratio; up to 10 tries each.
struct RandomErasing {
  /// Filled with 0; one N(0, 1) number per channel; one per value. timm: const, rand, pixel.
  enum class Mode { constant, color, pixel };
  double probability = 0;
  Mode mode = Mode::constant;
  int count = 1;
  Range area = {0.02, 1.0 / 3.0};
  Range aspect = {0.3, 1.0 / 0.3};
};

/// "const", "rand", "pixel"; throws and lists these for anything else.
RandomErasing::Mode erasing_mode_from_name(std::string_view name);

/// What a TrainTransform drew for one image, for contact sheets and tests.
struct TransformRecord {
  /// Taken from the image, or with Crop::padded and center from the resized one, where it may begin
  /// below 0.
  Box box = {};
  Interpolation interpolation = Interpolation::bicubic;
  bool flip = false;
  std::vector<AugmentStep> steps = {};  // of the policy and the colour jitter
  std::vector<Box> erased = {};
};

/// For training.
struct TrainTransform {
  enum class Crop {
    padded,   // shorter side to image_size unless it is so already, `padding` pixels on every side, then a
              // random square
    resized,  // a random box of `scale` of the area and `ratio` of the sides, resized (Inception's crop)
    center,   // shorter side to image_size, then the middle: no randomness
  };
  enum class Padding { zero, reflect };  // reflect leaves the border pixel out, as in NumPy and torchvision

  int image_size = 32;
  Crop crop = Crop::padded;
  int padding = 4;
  Padding padding_mode = Padding::zero;
  Range scale = {0.08, 1.0};
  Range ratio = {3.0 / 4.0, 4.0 / 3.0};
  Interpolation interpolation = Interpolation::bicubic;
  bool random_interpolation = false;  // instead: bilinear or bicubic, drawn for each image
  double horizontal_flip = 0.5;       // probability
  AugmentPolicy policy = {};
  ColorJitter color_jitter = {};  // inactive beside a policy, unless that keeps it (3-Augment)
  Normalization normalization = {};
  RandomErasing erasing = {};

  /// Throws an Error that names the field whose value is out of range.
  void check() const;
  /// Fills `output` (3, image_size, image_size). All randomness comes from `random`; `record`
  /// gets the random choices.
  void operator()(const Image& image, RandomSequence& random, float* output, TransformRecord* record = nullptr) const;
};

/// For evaluation: shorter side to floor(image_size / crop_pct), then the middle square of
/// image_size.
struct EvalTransform {
  int image_size = 32;
  double crop_pct = 1.0;  // share of the shorter side that evaluation looks at
  Interpolation interpolation = Interpolation::bicubic;
  Normalization normalization = {};

  void check() const;
  int resized_side() const;  // the shorter side before the middle is cut out
  void operator()(const Image& image, float* output) const;
};

/// Either of the two, as the loader takes it.
struct Transform {
  int image_size = 0;
  std::function<void(const Image& image, RandomSequence& random, float* output)> apply;

  Transform(TrainTransform transform);  // NOLINT: conversion is the point
  Transform(EvalTransform transform);   // NOLINT
};

// ---- The steps, for use on their own ----

Box random_resized_crop_box(int height, int width, Range scale, Range ratio, RandomSequence& random);
Box center_box(int height, int width, int size);
Image pad(const Image& image, int padding, TrainTransform::Padding mode);

/// The square that Crop::padded cuts out of an image of (height, width), where (0, 0) is the
/// image's own corner: it may reach into the padding on all sides.
Box padded_crop_box(const TrainTransform& transform, int height, int width, RandomSequence& random);

/// What each byte of red, green and blue becomes.
using NormalizedBytes = std::array<std::array<float, 256>, 3>;
NormalizedBytes normalized_bytes(const Normalization& normalization);

/// (H, W, 3) bytes to (3, H, W) floats, mirrored left to right if `flip`.
void normalize(const Image& image, const Normalization& normalization, bool flip, float* output);

/// The boxes that random_erase fills, in this order.
std::vector<ErasedBox> draw_erasing(const RandomErasing& erasing, int height, int width, RandomSequence& random);

/// In place on (3, height, width) floats. The boxes are added to `erased`.
void random_erase(const RandomErasing& erasing, int height, int width, RandomSequence& random, float* values,
                  std::vector<Box>* erased = nullptr);

}  // namespace vitrine
