// Runs the training transform and the mixing on single pictures, and turns their floats back into bytes.
#include "train/augmentation_sheet.h"

#include <algorithm>
#include <cmath>

#include "data/contact_sheet.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

/// One version of all pictures: a column of the sheet.
struct Column {
  Batch batch;  // images (pictures, 3, S, S), normalised
  std::vector<std::vector<std::string>> phrases;
};

/// Version `number` of all pictures, drawn as the loader draws in the epoch of that number.
Column make_column(const Recipe& recipe, const TrainTransform& transform, const std::vector<NamedPicture>& pictures,
                   std::int64_t number) {
  const auto count = static_cast<std::int64_t>(pictures.size());
  const std::int64_t side = transform.image_size;
  Column column;
  column.batch.images = empty({count, 3, side, side});
  column.batch.labels = empty({count}, DType::i64);
  column.batch.epoch = number;
  for (std::int64_t i = 0; i < count; ++i) {
    RandomSequence random(recipe.seed, Purpose::augmentation, static_cast<std::uint64_t>(number << 32 | i));
    TransformRecord record;
    transform(pictures[static_cast<std::size_t>(i)].image, random,
              column.batch.images.data<float>() + i * 3 * side * side, &record);
    column.batch.labels.data<std::int64_t>()[i] = i;
    column.phrases.push_back(phrases_of(transform, record));
  }
  return column;
}

/// Mixes the pictures of a column; without smoothing, their targets are the shares that they have in each other.
void mix_column(Mixing mixing, std::uint64_t seed, Column& column) {
  const auto count = static_cast<std::int64_t>(column.phrases.size());
  mixing.smoothing = 0;
  mixing.off_epoch = 0;
  apply_mixing(mixing, count, seed, column.batch);
  const std::vector<float> shares = column.batch.targets.to_vector<float>();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t partner = count - 1 - i;
    const float share = shares[static_cast<std::size_t>(i * count + partner)];
    if (share == 0) continue;
    column.phrases[static_cast<std::size_t>(i)].push_back(
        fmt::format("{:.0f}% of picture {}", 100 * share, partner + 1));
  }
}

/// Sample i of a batch as bytes.
Image picture_of(const Batch& batch, std::int64_t i, const Normalization& normalization) {
  const auto side = static_cast<int>(batch.images.size(2));
  const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(side) * side;
  Image picture(side, side);
  const float* values = batch.images.data<float>() + i * 3 * plane;
  for (int c = 0; c < 3; ++c) {
    const float mean = normalization.mean[static_cast<std::size_t>(c)];
    const float deviation = normalization.deviation[static_cast<std::size_t>(c)];
    for (std::ptrdiff_t k = 0; k < plane; ++k) {
      const float byte = std::nearbyint((values[c * plane + k] * deviation + mean) * 255);
      picture.pixels[static_cast<std::size_t>(3 * k + c)] = static_cast<std::uint8_t>(std::clamp(byte, 0.0f, 255.0f));
    }
  }
  return picture;
}

/// The picture so that its longer side is at most `side`.
Image fitted(const Image& image, int side) {
  const int longer = std::max(image.height, image.width);
  if (longer <= side) return image;
  const auto scaled = [&](int length) { return std::max(1, static_cast<int>(std::int64_t{length} * side / longer)); };
  return resize(image, scaled(image.height), scaled(image.width), Interpolation::bicubic);
}

}  // namespace

std::vector<std::string> phrases_of(const TrainTransform& transform, const TransformRecord& record) {
  std::vector<std::string> phrases;
  const Box& box = record.box;
  if (transform.crop == TrainTransform::Crop::resized) {
    phrases.push_back(fmt::format("box {}x{} at {},{}", box.width, box.height, box.left, box.top));
  }
  if (transform.crop == TrainTransform::Crop::padded)
    phrases.push_back(fmt::format("crop at {},{}", box.left, box.top));
  if (transform.random_interpolation) {
    phrases.emplace_back(record.interpolation == Interpolation::bilinear ? "bilinear" : "bicubic");
  }
  if (record.flip) phrases.emplace_back("flip");
  for (const AugmentStep& step : record.steps) phrases.push_back(to_string(step));
  for (const Box& erased : record.erased) {
    phrases.push_back(fmt::format("erase {}x{} at {},{}", erased.width, erased.height, erased.left, erased.top));
  }
  if (phrases.empty()) phrases.emplace_back("unchanged");
  return phrases;
}

Image augmentation_sheet(const Recipe& recipe, const PretrainedConfig& preprocessing,
                         const std::vector<NamedPicture>& pictures, int versions) {
  VT_CHECK(!pictures.empty() && versions >= 1, "augmentation sheet: {} pictures and {} versions, expected 1 or more",
           pictures.size(), versions);
  const TrainTransform transform = train_transform(recipe, preprocessing);
  transform.check();
  const std::optional<Mixing> mixing = train_loader_options(recipe, 0, cpu).mixing;
  std::vector<std::vector<Tile>> rows;
  for (const NamedPicture& picture : pictures) {
    rows.push_back({{fitted(picture.image, std::max(transform.image_size, 128)),
                     {picture.name, fmt::format("{}x{}", picture.image.width, picture.image.height)}}});
  }
  for (int number = 0; number < versions; ++number) {
    Column column = make_column(recipe, transform, pictures, number);
    if (mixing && pictures.size() % 2 == 0) mix_column(*mixing, recipe.seed, column);
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      rows[i].push_back(
          {picture_of(column.batch, static_cast<std::int64_t>(i), transform.normalization), column.phrases[i]});
    }
  }
  return contact_sheet(rows);
}

}  // namespace vitrine
