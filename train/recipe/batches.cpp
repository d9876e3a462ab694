// The choice between the three loaders.
#include "train/recipe/batches.h"

#include "data/loader/device_loader.h"
#include "data/loader/prefetch_loader.h"

namespace vitrine {
namespace {

/// The images on the device, or why they cannot stay there.
DeviceImages::LoadResult device_images(const Recipe& recipe, const DatasetPtr& dataset,
                                       const DeviceTransform& transform, Device device) {
  if (recipe.device_data == "off") return {nullptr, "device-data is off"};
  if (!transform.reason.empty()) return {nullptr, transform.reason};
  return DeviceImages::load(dataset, transform.shorter_side, device, most_bytes_on(device));
}

/// `steps`: a TrainTransform or an EvalTransform.
template <class Steps>
Batches open_batches(const Recipe& recipe, const DatasetPtr& dataset, const Steps& steps, const LoaderOptions& options,
                     Placement placement) {
  if (placement.device.is_cpu()) return {std::make_unique<Loader>(dataset, steps, options), ""};
  const std::string device = to_string(placement.device);
  const DeviceTransform transform(steps);
  const auto [images, reason] = device_images(recipe, dataset, transform, placement.device);
  if (!images) {
    auto loader = std::make_unique<Loader>(dataset, steps, options);
    return {std::make_unique<PrefetchLoader>(std::move(loader), placement.device),
            fmt::format("{} prepared on the CPU and copied to {} ({})", dataset->size(), device, reason)};
  }
  const double megabytes = static_cast<double>(images->bytes().numel()) / 1e6;
  return {std::make_unique<DeviceLoader>(images, transform, options, placement.dtype),
          fmt::format("{} kept on {} as bytes, {:.3g} MB", dataset->size(), device, megabytes)};
}

}  // namespace

Batches training_batches(const Recipe& recipe, const TrainingData& data, const PretrainedConfig& preprocessing,
                         std::int64_t classes, Placement placement) {
  return open_batches(recipe, data.train, train_transform(recipe, preprocessing),
                      train_loader_options(recipe, classes, placement.device), placement);
}

Batches evaluation_batches(const Recipe& recipe, const TrainingData& data, const PretrainedConfig& preprocessing,
                           Placement placement) {
  return open_batches(recipe, data.val, eval_transform(preprocessing), eval_loader_options(recipe), placement);
}

}  // namespace vitrine
