// Decodes a dataset piece by piece into the memory of a device.
#include "data/loader/device_images.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "data/loader/epoch.h"
#include "tensor/device/launch.h"
#include "tensor/error.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

/// The size of the first image that can be read, or nothing where none of the first few can.
std::optional<Image> first_image(const Dataset& dataset) {
  for (std::int64_t i = 0; i < std::min<std::int64_t>(16, dataset.size()); ++i) {
    try {
      return dataset.get(i).image;
    } catch (const std::exception&) {
      // A bad sample is reported when it is asked for, not here.
    }
  }
  return std::nullopt;
}

}  // namespace

DeviceImages::DeviceImages(DatasetPtr dataset, Tensor bytes)
    : dataset_(std::move(dataset)),
      bytes_(std::move(bytes)),
      labels_(static_cast<std::size_t>(dataset_->size())),
      failures_(static_cast<std::size_t>(dataset_->size())) {}

DeviceImages::LoadResult DeviceImages::load(DatasetPtr dataset, int shorter_side, Device device,
                                            std::size_t most_bytes) {
  const std::optional<Image> first = first_image(*dataset);
  if (!first) return {nullptr, "none of the first images can be read"};
  const int height = first->height, width = first->width;
  if (std::min(height, width) != shorter_side) {
    return {nullptr, fmt::format("images of {} x {} pixels have to be resized to {}", width, height, shorter_side)};
  }
  const std::int64_t image_bytes = std::int64_t{3} * height * width, count = dataset->size();
  if (static_cast<std::size_t>(image_bytes) > most_bytes / static_cast<std::size_t>(count)) {
    return {nullptr,
            fmt::format("{} MB of pixels, at most {} fit", count * image_bytes / 1'000'000, most_bytes / 1'000'000)};
  }

  Tensor bytes = empty({count, height, width, 3}, DType::u8, device);
  const std::shared_ptr<DeviceImages> images(new DeviceImages(std::move(dataset), std::move(bytes)));
  const std::int64_t piece = std::max<std::int64_t>(1, (4 << 20) / image_bytes);  // bounds the memory of the host
  for (std::int64_t begin = 0; begin < count; begin += piece) {
    const std::string reason = images->decode(begin, std::min(piece, count - begin));
    if (!reason.empty()) return {nullptr, reason};
  }
  return {images, ""};
}

/// Fills the bytes of samples first ... first + count - 1. Returns the reason if one of them has
/// another size.
std::string DeviceImages::decode(std::int64_t first, std::int64_t count) {
  const std::int64_t image_bytes = std::int64_t{3} * height() * width();
  Tensor piece = zeros({count, height(), width(), 3}, DType::u8);
  std::uint8_t* pixels = piece.data<std::uint8_t>();
  std::vector<std::string> reasons(static_cast<std::size_t>(count));
  parallel_for(count, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto index = static_cast<std::size_t>(first + i);
      try {
        const Sample sample = checked_sample(*dataset_, first + i);
        labels_[index] = sample.label;
        if (sample.image.height == height() && sample.image.width == width()) {
          std::memcpy(pixels + i * image_bytes, sample.image.pixels.data(), static_cast<std::size_t>(image_bytes));
        } else {
          reasons[static_cast<std::size_t>(i)] =
              fmt::format("{} has {} x {} pixels, others {} x {}", dataset_->name(first + i), sample.image.width,
                          sample.image.height, width(), height());
        }
      } catch (const std::exception& failure) {
        failures_[index] = failure.what();
      }
    }
  });
  for (const std::string& reason : reasons) {
    if (!reason.empty()) return reason;
  }
  Tensor target = bytes_.view_as(piece.shape(), piece.strides(), first * image_bytes);
  copy_into(target, piece);
  return "";
}

std::int64_t DeviceImages::label(std::int64_t index) const {
  const auto i = static_cast<std::size_t>(index);
  if (!failures_[i].empty()) throw Error(failures_[i]);
  return labels_[i];
}

std::size_t most_bytes_on(Device device) {
#if VT_CUDA
  if (device.is_cuda()) {
    std::size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return free / 4;
  }
#endif
  VT_CHECK(device.is_cpu(), "device images: device is {}, this build has no CUDA", to_string(device));
  return std::numeric_limits<std::size_t>::max();
}

}  // namespace vitrine
