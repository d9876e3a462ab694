// DeviceLoader: the batches of a Loader, made on a GPU from images that are kept there as bytes.
//
//   const DeviceTransform transform = TrainTransform{.image_size = 32};
//   if (!transform.reason.empty()) ...                  // the kernel cannot do it: use a Loader
//   auto [images, reason] = DeviceImages::load(dataset, transform.shorter_side, cuda(0), most_bytes_on(cuda(0)));
//   DeviceLoader loader(images, transform, {.batch_size = 128, .seed = 1});
//   for (Batch& batch : loader.epoch(0)) step(batch.images, batch.targets);
//
// With the same dataset, transform and options, a Loader gives the same batches: the random numbers
// are drawn by the same functions in the same order. All values have the same bits, but for the
// noise in erased boxes (see normal_number).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/augment/transforms.h"
#include "data/loader/batch_kernel.h"
#include "data/loader/batch_source.h"
#include "data/loader/device_images.h"
#include "data/loader/epoch.h"

namespace vitrine {

/// A transform as the batch kernel does it: nothing is resized, no colour is changed.
struct DeviceTransform {
  TrainTransform steps;
  int shorter_side = 0;  // that the images must have
  std::string reason;    // why the kernel cannot do it; empty: it can

  DeviceTransform(const TrainTransform& transform);  // NOLINT: conversion is the point
  DeviceTransform(const EvalTransform& transform);   // NOLINT
};

class DeviceLoader : public BatchSource {
 public:
  /// Batches live where the images do, and their images are of `dtype`: f32, or bf16 for mixed
  /// precision. The options workers and prefetch have no effect: next() draws a batch's random
  /// choices and queues the kernel.
  DeviceLoader(std::shared_ptr<const DeviceImages> images, const DeviceTransform& transform, LoaderOptions options,
               DType dtype = DType::f32);

  std::int64_t batches_per_epoch() const override;
  void start(std::int64_t epoch, std::int64_t first_batch = 0) override;
  /// After an Error, the epoch is over.
  std::optional<Batch> next_into(const BatchPlace& place) override;
  std::vector<std::string> bad_samples() const override;

 private:
  BatchDraw draw(Batch& batch);

  const std::shared_ptr<const DeviceImages> images_;
  const TrainTransform transform_;
  const LoaderOptions options_;
  const DType dtype_;
  BatchKernel kernel_;
  BadSamples bad_;

  std::int64_t epoch_ = 0, next_ = 0, end_ = 0;  // end_: batches in the epoch, 0 when it is over
  std::vector<std::int64_t> order_;
};

}  // namespace vitrine
