// The two pipelines: what happens to an image on its way into a training or an evaluation batch.
#include "data/augment/transforms.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>

#include "data/augment/image_ops.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

void check_probability(double value, std::string_view field) {
  VT_CHECK(value >= 0 && value <= 1, "transform: {} is {}, expected 0 to 1", field, value);
}

void check_positive(Range range, std::string_view field) {
  VT_CHECK(range.first > 0 && range.first <= range.second && std::isfinite(range.second),
           "transform: {} is {} to {}, expected 0 < low <= high", field, range.first, range.second);
}

void check_size(int image_size) {
  VT_CHECK(image_size >= 1 && image_size <= 8192, "transform: image_size is {}, expected 1 to 8192", image_size);
}

void check_normalization(const Normalization& normalization) {
  for (std::size_t c = 0; c < 3; ++c) {
    VT_CHECK(normalization.std[c] > 0 && std::isfinite(normalization.mean[c]),
             "transform: mean {} and std {} of channel {}, expected finite and std above 0", normalization.mean[c],
             normalization.std[c], c);
  }
}

Image with_shorter_side(const Image& image, int size, Interpolation interpolation) {
  if (std::min(image.height, image.width) == size) return image;
  return resize_shorter_side(image, size, interpolation);
}

Image padded_crop(const TrainTransform& transform, const Image& image, RandomSequence& random, TransformRecord& drawn) {
  const int border = transform.padding;
  Image padded = with_shorter_side(image, transform.image_size, drawn.interpolation);
  if (border > 0) padded = pad(padded, border, transform.padding_mode);
  Box box = padded_crop_box(transform, padded.height - 2 * border, padded.width - 2 * border, random);
  drawn.box = box;
  box.top += border, box.left += border;
  return crop(padded, box);
}

/// The crop of the image with the interpolation that was drawn.
Image cropped(const TrainTransform& transform, const Image& image, RandomSequence& random, TransformRecord& drawn) {
  const int size = transform.image_size;
  switch (transform.crop) {
    case TrainTransform::Crop::padded:
      return padded_crop(transform, image, random, drawn);
    case TrainTransform::Crop::resized:
      drawn.box = random_resized_crop_box(image.height, image.width, transform.scale, transform.ratio, random);
      return resized_crop(image, drawn.box, size, size, drawn.interpolation);
    case TrainTransform::Crop::center:
      break;
  }
  const Image resized = with_shorter_side(image, size, drawn.interpolation);
  drawn.box = center_box(resized.height, resized.width, size);
  return crop(resized, drawn.box);
}

/// What the policy and the colour jitter do to the square image.
std::vector<AugmentStep> draw_steps(const TrainTransform& transform, RandomSequence& random) {
  AugmentContext context{.height = transform.image_size,
                         .width = transform.image_size,
                         .random_resampling = transform.random_interpolation};
  const bool bilinear = transform.interpolation == Interpolation::bilinear;
  context.resampling = bilinear ? Resampling::bilinear : Resampling::bicubic;
  for (std::size_t c = 0; c < 3; ++c) {
    const double mean = std::nearbyint(255.0 * static_cast<double>(transform.normalization.mean[c]));
    context.fill[c] = static_cast<std::uint8_t>(std::clamp(mean, 0.0, 255.0));
  }
  std::vector<AugmentStep> steps = transform.policy.draw(context, random);
  if (transform.color_jitter.active() && (transform.policy.empty() || transform.policy.keeps_color_jitter())) {
    std::ranges::copy(draw_color_jitter(transform.color_jitter, random), std::back_inserter(steps));
  }
  return steps;
}

}  // namespace

void TrainTransform::check() const {
  check_size(image_size);
  VT_CHECK(padding >= 0 && padding <= 4096, "transform: padding is {}, expected 0 to 4096", padding);
  VT_CHECK(padding_mode == Padding::zero || padding < image_size,
           "transform: padding is {}, expected less than image_size = {} for reflection", padding, image_size);
  check_positive(scale, "scale");
  VT_CHECK(scale.second <= 1, "transform: scale goes up to {}, expected 1 at the most", scale.second);
  check_positive(ratio, "ratio");
  check_probability(horizontal_flip, "horizontal_flip");
  for (const double strength : {color_jitter.brightness, color_jitter.contrast, color_jitter.saturation}) {
    VT_CHECK(strength >= 0 && std::isfinite(strength), "transform: a colour jitter of {}, expected 0 or more",
             strength);
  }
  check_normalization(normalization);
  check_probability(erasing.probability, "erasing probability");
  VT_CHECK(erasing.count >= 1, "transform: erasing count is {}, expected 1 or more", erasing.count);
  check_positive(erasing.area, "erasing area");
  check_positive(erasing.aspect, "erasing aspect");
}

void TrainTransform::operator()(const Image& image, RandomSequence& random, float* output,
                                TransformRecord* record) const {
  TransformRecord drawn{.interpolation = interpolation};
  if (random_interpolation) {
    drawn.interpolation = random.chance(0.5) ? Interpolation::bilinear : Interpolation::bicubic;
  }
  Image square = cropped(*this, image, random, drawn);
  drawn.flip = random.chance(horizontal_flip);
  drawn.steps = draw_steps(*this, random);
  // The order of timm and torchvision: steps see the mirrored image. Without any, normalize mirrors
  // for nothing.
  if (drawn.flip && !drawn.steps.empty()) square = mirror(std::move(square));
  for (const AugmentStep& step : drawn.steps) square = apply(std::move(square), step);
  normalize(square, normalization, drawn.flip && drawn.steps.empty(), output);
  if (erasing.probability > 0) random_erase(erasing, image_size, image_size, random, output, &drawn.erased);
  if (record) *record = std::move(drawn);
}

void EvalTransform::check() const {
  check_size(image_size);
  VT_CHECK(crop_pct > 0 && crop_pct <= 1, "transform: crop_pct is {}, expected above 0 and up to 1", crop_pct);
  check_normalization(normalization);
}

int EvalTransform::resized_side() const { return static_cast<int>(std::floor(image_size / crop_pct)); }

void EvalTransform::operator()(const Image& image, float* output) const {
  const Image resized = with_shorter_side(image, resized_side(), interpolation);
  const Image square = crop(resized, center_box(resized.height, resized.width, image_size));
  normalize(square, normalization, false, output);
}

Transform::Transform(TrainTransform transform) : image_size(transform.image_size) {
  transform.check();
  apply = [transform](const Image& image, RandomSequence& random, float* output) { transform(image, random, output); };
}

Transform::Transform(EvalTransform transform) : image_size(transform.image_size) {
  transform.check();
  apply = [transform](const Image& image, RandomSequence&, float* output) { transform(image, output); };
}

}  // namespace vitrine
