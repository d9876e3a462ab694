// Draws what a batch is made of; the kernel does the rest.
#include "data/loader/device_loader.h"

#include <algorithm>

#include "tensor/error.h"

namespace vitrine {
namespace {

/// The square of an image of (height, width), where (0, 0) is the image's own corner.
Box square_of(const TrainTransform& transform, int height, int width, RandomSequence& random) {
  if (transform.crop == TrainTransform::Crop::padded) return padded_crop_box(transform, height, width, random);
  return center_box(height, width, transform.image_size);
}

}  // namespace

DeviceTransform::DeviceTransform(const TrainTransform& transform)
    : steps(transform), shorter_side(transform.image_size) {
  transform.check();
  // All fields by name, so that the compiler asks for a decision here when there is a new one.
  const auto& [size, crop, padding, padding_mode, scale, ratio, interpolation, random_interpolation, flip, policy,
               jitter, normalization, erasing] = transform;
  if (crop == TrainTransform::Crop::resized) reason = "random boxes are resized";
  if (random_interpolation) reason = "the interpolation is drawn";
  if (jitter.active()) reason = "colours are changed";
  if (!policy.empty()) reason = "a policy changes them";
}

DeviceTransform::DeviceTransform(const EvalTransform& transform)
    : steps{.image_size = transform.image_size,
            .crop = TrainTransform::Crop::center,
            .horizontal_flip = 0,
            .normalization = transform.normalization},
      shorter_side(transform.resized_side()) {
  transform.check();
}

DeviceLoader::DeviceLoader(std::shared_ptr<const DeviceImages> images, const DeviceTransform& transform,
                           LoaderOptions options, DType dtype)
    : images_(std::move(images)),
      transform_(transform.steps),
      options_(std::move(options)),
      dtype_(dtype),
      kernel_(images_->bytes(), transform_),
      bad_(images_->dataset(), options_.bad_samples_allowed) {
  options_.check(images_->dataset());
  VT_CHECK(transform.reason.empty(), "device loader: {}, expected padded or centre crops without colour changes",
           transform.reason);
  VT_CHECK(std::min(images_->height(), images_->width()) == transform.shorter_side,
           "device loader: images have {} x {} pixels, expected a shorter side of {}", images_->width(),
           images_->height(), transform.shorter_side);
}

std::int64_t DeviceLoader::batches_per_epoch() const { return options_.batches_per_epoch(images_->dataset()->size()); }

void DeviceLoader::start(std::int64_t epoch, std::int64_t first_batch) {
  check_start(epoch, first_batch, batches_per_epoch());
  order_ = sample_order(options_, images_->dataset()->size(), epoch);
  epoch_ = epoch;
  next_ = first_batch;
  end_ = batches_per_epoch();
}

std::optional<Batch> DeviceLoader::next_into(const BatchPlace& place) {
  if (next_ >= end_) return std::nullopt;
  const std::int64_t end = std::exchange(end_, 0);  // an exception ends the epoch
  Batch batch;
  batch.epoch = epoch_;
  batch.number = next_++;
  const BatchDraw draws = draw(batch);
  end_ = end;

  const Device device = images_->bytes().device();
  const std::int64_t side = transform_.image_size;
  batch.images = placed(place.images, {batch.size(), 3, side, side}, dtype_, device);
  TargetLevels levels;
  if (options_.mixing) {
    const std::int64_t classes = options_.target_classes(*images_->dataset());
    levels = target_levels(classes, options_.mixing->smoothing);
    batch.targets = placed(place.targets, {batch.size(), classes}, DType::f32, device);
  }
  kernel_(draws, levels, batch.images, batch.targets);
  return batch;
}

/// Everything random about the batch, in the order in which TrainTransform and apply_mixing draw.
/// Fills batch.indices and batch.labels.
BatchDraw DeviceLoader::draw(Batch& batch) {
  const std::int64_t first = batch.number * options_.batch_size;
  const std::int64_t count = std::min(options_.batch_size, options_.samples(images_->dataset()->size()) - first);
  const int size = transform_.image_size;
  BatchDraw draws;
  if (transform_.erasing.probability > 0) draws.most_boxes = static_cast<std::size_t>(transform_.erasing.count);
  draws.boxes.resize(static_cast<std::size_t>(count) * draws.most_boxes);
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t position = first + i;
    SampleDraw sample{.index = order_[static_cast<std::size_t>(position)]};
    sample.label = bad_.replacing(sample.index, [this](std::int64_t index) { return images_->label(index); });
    RandomSequence random =
        augmentation_numbers(options_, batch.epoch, position, sample.index, images_->dataset()->size());
    const Box square = square_of(transform_, images_->height(), images_->width(), random);
    sample.top = square.top;
    sample.left = square.left;
    sample.flip = random.chance(transform_.horizontal_flip);
    if (draws.most_boxes > 0) {
      const std::vector<ErasedBox> erased = draw_erasing(transform_.erasing, size, size, random);
      sample.boxes = static_cast<int>(erased.size());
      std::ranges::copy(erased, draws.boxes.begin() + i * static_cast<std::ptrdiff_t>(draws.most_boxes));
    }
    draws.samples.push_back(sample);
    batch.indices.push_back(sample.index);
    labels.push_back(sample.label);
  }
  batch.labels = from_vector(labels, {count});

  if (options_.mixing) {
    const auto mixing =
        draw_batch_mixing(*options_.mixing, options_.seed, batch.epoch, batch.number, count, size, size);
    draws.mixes = !mixing.empty();
    for (std::size_t i = 0; i < mixing.size(); ++i) draws.samples[i].mixing = mixing[i];
  }
  return draws;
}

std::vector<std::string> DeviceLoader::bad_samples() const { return bad_.list(); }

}  // namespace vitrine
