// BatchKernel: makes a batch from bytes that lie on the device, in one kernel: crop, flip,
// normalise, erase, mix, and the targets.
//
// The host draws the crop, flip, boxes and mixing of each sample, with the functions that the
// transforms on the CPU use, and hands over the few bytes of a SampleDraw. The kernel goes by
// output pixels: each thread looks up which byte its pixel shows, in the sample and, where the
// batch is mixed, in the sample's partner. No intermediate image is ever stored.
#pragma once

#include <cstdint>
#include <vector>

#include "data/augment/mixing.h"
#include "data/augment/transforms.h"
#include "tensor/tensor.h"

namespace vitrine {

/// The random choices for one sample of a batch.
struct SampleDraw {
  std::int64_t index = 0, label = 0;  // which image of the set
  std::int32_t top = 0, left = 0;     // the square's corner in the image; around the image lies the padding
  std::int32_t boxes = 0;             // erased boxes
  bool flip = false;
  MixingDraw mixing = {};
};

struct BatchDraw {
  std::vector<SampleDraw> samples;
  std::vector<ErasedBox> boxes;  // those of sample i begin at i * most_boxes
  std::size_t most_boxes = 0;    // RandomErasing::count, or 0 where nothing is ever erased
  bool mixes = false;            // sample i with sample B - 1 - i
};

class BatchKernel {
 public:
  /// `bytes`: u8 (count, H, W, 3), on the device that the batches are for. The kernel reads only
  /// image_size, padding_mode, normalization and erasing.mode of the transform; the host draws the
  /// rest.
  BatchKernel(Tensor bytes, const TrainTransform& transform);

  /// Fills images (B, 3, S, S), f32 or bf16, and, unless it is undefined, targets (B, K) f32 with
  /// these levels at the label and elsewhere. Does not wait for a GPU; once the first batch is
  /// made, allocates nothing for batches that are no larger.
  void operator()(const BatchDraw& draw, TargetLevels levels, Tensor& images, Tensor& targets);

 private:
  Tensor bytes_, normalized_;  // normalized_: f32 (3, 256)
  Tensor samples_, boxes_;     // u8: the draws on the device
  int size_;
  bool reflect_;
  RandomErasing::Mode erasing_;
};

}  // namespace vitrine
