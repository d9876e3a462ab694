// DeviceImages: all images of a dataset as bytes in a device's memory, for sets that are small
// enough.
//
//   auto [images, reason] = DeviceImages::load(dataset, 32, cuda(0), most_bytes_on(cuda(0)));
//   if (!images) ...    // reason says why: "photo.jpg has 40 x 30 pixels, cat.jpg 32 x 32"
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "tensor/tensor.h"

namespace vitrine {

class DeviceImages {
 public:
  /// The images, or nullptr and the reason why the device cannot keep them.
  struct LoadResult {
    std::shared_ptr<const DeviceImages> images;
    std::string reason;
  };

  /// Decodes every sample once, with the threads of parallel_for. Possible where all images have
  /// one size whose shorter side is `shorter_side`, and no more than `most_bytes` in total, 3 for
  /// each pixel. Samples that cannot be read do not count.
  static LoadResult load(DatasetPtr dataset, int shorter_side, Device device, std::size_t most_bytes);

  const DatasetPtr& dataset() const { return dataset_; }
  const Tensor& bytes() const { return bytes_; }  // u8 (count, H, W, 3)
  int height() const { return static_cast<int>(bytes_.size(1)); }
  int width() const { return static_cast<int>(bytes_.size(2)); }

  /// The label of a sample; throws what reading the sample threw.
  std::int64_t label(std::int64_t index) const;

 private:
  DeviceImages(DatasetPtr dataset, Tensor bytes);
  std::string decode(std::int64_t first, std::int64_t count);

  DatasetPtr dataset_;
  Tensor bytes_;
  std::vector<std::int64_t> labels_;
  std::vector<std::string> failures_;  // the message where a sample could not be read, else empty
};

/// The bytes that a dataset may take of a device's memory: a quarter of what is free, so that most
/// is left for training.
std::size_t most_bytes_on(Device device);

}  // namespace vitrine
