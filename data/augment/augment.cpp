// The single steps of the transforms: boxes, padding, normalisation, erasing.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "data/augment/transforms.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

/// Rounds halves to the even neighbour, as Python does.
int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

/// The normal values of a stream one after the other: normal_number(random, 0), (random, 1), ...
class NormalSource {
 public:
  explicit NormalSource(const Random& random) : random_(random) {}

  float next() {
    if (used_ == 4) refill();
    return values_[used_++];
  }

 private:
  void refill() {
    const PhiloxBlock block = random_.block(blocks_++);
    for (std::size_t i = 0; i < 4; i += 2) {
      const NormalPair pair = normal_pair(block.word[i], block.word[i + 1]);
      values_[i] = pair.first;
      values_[i + 1] = pair.second;
    }
    used_ = 0;
  }

  Random random_;
  std::uint64_t blocks_ = 0;
  std::array<float, 4> values_ = {};
  std::size_t used_ = 4;
};

/// Noise runs through the box channel by channel, row by row; with Mode::color, value c of the
/// stream fills channel c.
void erase_box(RandomErasing::Mode mode, const ErasedBox& erased, int height, int width, float* values) {
  NormalSource normal(erased.noise);
  const Box& box = erased.box;
  for (int c = 0; c < 3; ++c) {
    const float color = mode == RandomErasing::Mode::color ? normal.next() : 0;
    for (int y = box.top; y < box.top + box.height; ++y) {
      float* row = values + (static_cast<std::ptrdiff_t>(c) * height + y) * width + box.left;
      for (int x = 0; x < box.width; ++x) row[x] = mode == RandomErasing::Mode::pixel ? normal.next() : color;
    }
  }
}

}  // namespace

Box random_resized_crop_box(int height, int width, Range scale, Range ratio, RandomSequence& random) {
  const double area = static_cast<double>(height) * width;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(scale.first, scale.second);
    const double aspect = std::exp(random.uniform(std::log(ratio.first), std::log(ratio.second)));
    const int box_width = rounded(std::sqrt(target * aspect)), box_height = rounded(std::sqrt(target / aspect));
    if (box_width < 1 || box_width > width || box_height < 1 || box_height > height) continue;
    const int top = static_cast<int>(random.integer(height - box_height + 1));
    const int left = static_cast<int>(random.integer(width - box_width + 1));
    return {top, left, box_height, box_width};
  }
  // No box fitted: the largest one in the middle whose sides keep the ratio.
  int box_height = height, box_width = width;
  const double image_ratio = static_cast<double>(width) / height;
  if (image_ratio < ratio.first) box_height = std::clamp(rounded(width / ratio.first), 1, height);
  if (image_ratio > ratio.second) box_width = std::clamp(rounded(height * ratio.second), 1, width);
  return {(height - box_height) / 2, (width - box_width) / 2, box_height, box_width};
}

Box padded_crop_box(const TrainTransform& transform, int height, int width, RandomSequence& random) {
  const int size = transform.image_size, border = transform.padding;
  const int top = static_cast<int>(random.integer(height + 2 * border - size + 1)) - border;
  const int left = static_cast<int>(random.integer(width + 2 * border - size + 1)) - border;
  return {top, left, size, size};
}

Box center_box(int height, int width, int size) {
  VT_CHECK(size >= 1 && size <= height && size <= width, "center crop: {} pixels out of {} x {}", size, width, height);
  return {rounded((height - size) / 2.0), rounded((width - size) / 2.0), size, size};
}

Image pad(const Image& image, int padding, TrainTransform::Padding mode) {
  const bool reflect = mode == TrainTransform::Padding::reflect;
  VT_CHECK(image.channels == 3 && padding >= 0, "pad: {} channels and {} pixels, expected 3 and 0 or more",
           image.channels, padding);
  VT_CHECK(!reflect || (padding < image.height && padding < image.width),
           "pad: cannot reflect {} pixels of an image of {} x {}", padding, image.width, image.height);
  Image padded(image.height + 2 * padding, image.width + 2 * padding);
  for (int y = 0; y < padded.height; ++y) {
    const int source_y = y - padding;
    const bool inside = source_y >= 0 && source_y < image.height;
    if (!inside && !reflect) continue;
    const int row = reflected(source_y, image.height);
    std::memcpy(padded.at(y, padding), image.at(row, 0), 3 * static_cast<std::size_t>(image.width));
    for (int i = 1; reflect && i <= padding; ++i) {
      std::memcpy(padded.at(y, padding - i), image.at(row, i), 3);
      std::memcpy(padded.at(y, padding + image.width - 1 + i), image.at(row, image.width - 1 - i), 3);
    }
  }
  return padded;
}

NormalizedBytes normalized_bytes(const Normalization& normalization) {
  NormalizedBytes value;
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      value[c][byte] = (static_cast<float>(byte) / 255.0f - normalization.mean[c]) / normalization.std[c];
    }
  }
  return value;
}

void normalize(const Image& image, const Normalization& normalization, bool flip, float* output) {
  VT_CHECK(image.channels == 3, "normalize: the image has {} channels, expected 3", image.channels);
  const NormalizedBytes value = normalized_bytes(normalization);
  const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(image.height) * image.width;
  const std::ptrdiff_t step = flip ? -1 : 1;
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* pixel = image.at(y, 0);
    float* target = output + static_cast<std::ptrdiff_t>(y) * image.width + (flip ? image.width - 1 : 0);
    for (int x = 0; x < image.width; ++x, pixel += 3, target += step) {
      target[0] = value[0][pixel[0]];
      target[plane] = value[1][pixel[1]];
      target[2 * plane] = value[2][pixel[2]];
    }
  }
}

RandomErasing::Mode erasing_mode_from_name(std::string_view name) {
  if (name == "const") return RandomErasing::Mode::constant;
  if (name == "rand") return RandomErasing::Mode::color;
  if (name == "pixel") return RandomErasing::Mode::pixel;
  throw Error(fmt::format("random erasing: mode \"{}\", expected const, rand or pixel", name));
}

std::vector<ErasedBox> draw_erasing(const RandomErasing& erasing, int height, int width, RandomSequence& random) {
  std::vector<ErasedBox> drawn;
  if (!random.chance(erasing.probability)) return drawn;
  const auto boxes = static_cast<int>(1 + random.integer(erasing.count));
  const double image_area = static_cast<double>(height) * width;
  for (int i = 0; i < boxes; ++i) {
    for (int attempt = 0; attempt < 10; ++attempt) {
      const double area = random.uniform(erasing.area.first, erasing.area.second) * image_area / boxes;
      const double aspect = std::exp(random.uniform(std::log(erasing.aspect.first), std::log(erasing.aspect.second)));
      const int box_height = rounded(std::sqrt(area * aspect)), box_width = rounded(std::sqrt(area / aspect));
      if (box_height >= height || box_width >= width) continue;
      const int top = static_cast<int>(random.integer(height - box_height + 1));
      const int left = static_cast<int>(random.integer(width - box_width + 1));
      const auto two_words = [&random] {
        const std::uint64_t low = random.bits(), high = random.bits();
        return low | high << 32;
      };
      const std::uint64_t seed = two_words(), stream = two_words();
      drawn.push_back({{top, left, box_height, box_width}, {seed, Purpose::augmentation, stream}});
      break;
    }
  }
  return drawn;
}

void random_erase(const RandomErasing& erasing, int height, int width, RandomSequence& random, float* values,
                  std::vector<Box>* erased) {
  for (const ErasedBox& drawn : draw_erasing(erasing, height, width, random)) {
    erase_box(erasing.mode, drawn, height, width, values);
    if (erased) erased->push_back(drawn.box);
  }
}

}  // namespace vitrine
