// Runs the training transform and the mixing on single pictures, and turns their floats back into
// bytes.
#include "train/recipe/augmentation_sheet.h"

#include <algorithm>
#include <cmath>

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

/// The mixing that the sheet shows, if the recipe has one: that before off_epoch, of labels without
/// smoothing.
std::optional<Mixing> visible_mixing(const Recipe& recipe) {
  std::optional<Mixing> mixing = train_loader_options(recipe, 0, cpu).mixing;
  if (!mixing) return {};
  mixing->off_epoch = 0;
  mixing->smoothing = 0;
  return mixing->mixes(0) ? mixing : std::nullopt;
}

/// Mixes the pictures of a column, each with its partner.
void mix_column(const Mixing& mixing, std::uint64_t seed, Column& column) {
  Batch& batch = column.batch;
  const auto count = static_cast<std::int64_t>(column.phrases.size());
  const auto side = static_cast<int>(batch.images.size(2));
  apply_mixing(mixing, count, seed, batch);
  const auto draws = draw_batch_mixing(mixing, seed, batch.epoch, batch.number, count, side, side);  // those it took
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const auto phrase = phrase_of(draws[i], count - static_cast<std::int64_t>(i));  // counted from 1
    if (phrase) column.phrases[i].push_back(*phrase);
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
    const float std = normalization.std[static_cast<std::size_t>(c)];
    for (std::ptrdiff_t k = 0; k < plane; ++k) {
      const float byte = std::nearbyint((values[c * plane + k] * std + mean) * 255);
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
  return phrases;
}

std::optional<std::string> phrase_of(const MixingDraw& draw, std::int64_t partner) {
  if (draw.lambda == 1) return {};
  if (!draw.cutmix) return fmt::format("mixup with {:.1f}% of picture {}", 100 * (1 - draw.lambda), partner);
  return fmt::format("cutmix {}x{} at {},{} from picture {}", draw.right - draw.left, draw.bottom - draw.top, draw.left,
                     draw.top, partner);
}

std::string not_shown(const Recipe& recipe, std::size_t pictures) {
  const std::optional<Mixing> mixing = visible_mixing(recipe);
  if (!mixing || pictures % 2 == 0) return "";
  const bool mixup = mixing->mixup_alpha > 0, cutmix = mixing->cutmix_alpha > 0;
  const char* what = mixup && cutmix ? "mixup and CutMix" : mixup ? "mixup" : "CutMix";
  return fmt::format("{} not shown: give an even number of images, not {}", what, pictures);
}

std::vector<std::vector<Tile>> augmentation_tiles(const Recipe& recipe, const PretrainedConfig& preprocessing,
                                                  const std::vector<NamedPicture>& pictures, int versions) {
  VT_CHECK(!pictures.empty() && versions >= 1, "augmentation sheet: {} pictures and {} versions, expected 1 or more",
           pictures.size(), versions);
  const TrainTransform transform = train_transform(recipe, preprocessing);
  transform.check();
  const std::optional<Mixing> mixing = visible_mixing(recipe);
  std::vector<std::vector<Tile>> rows;
  for (const auto& [name, image] : pictures) {
    rows.push_back(
        {{fitted(image, std::max(transform.image_size, 128)),
          {fmt::format("picture {}", rows.size() + 1), name, fmt::format("{}x{}", image.width, image.height)}}});
  }
  for (int number = 0; number < versions; ++number) {
    Column column = make_column(recipe, transform, pictures, number);
    if (mixing && pictures.size() % 2 == 0) mix_column(*mixing, recipe.seed, column);
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      std::vector<std::string>& phrases = column.phrases[i];
      if (phrases.empty()) phrases.emplace_back("unchanged");
      rows[i].push_back({picture_of(column.batch, static_cast<std::int64_t>(i), transform.normalization), phrases});
    }
  }
  return rows;
}

Image augmentation_sheet(const Recipe& recipe, const PretrainedConfig& preprocessing,
                         const std::vector<NamedPicture>& pictures, int versions) {
  return contact_sheet(augmentation_tiles(recipe, preprocessing, pictures, versions),
                       not_shown(recipe, pictures.size()));
}

}  // namespace vitrine
