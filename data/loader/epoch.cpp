// Checks of the options, the shuffle, the repeats, and the list of samples that could not be read.
#include "data/loader/epoch.h"

#include <numeric>

#include "tensor/error.h"

namespace vitrine {

void LoaderOptions::check(const DatasetPtr& dataset) const {
  VT_CHECK(dataset != nullptr && dataset->size() > 0, "loader: the dataset has no samples");
  VT_CHECK(batch_size >= 1, "loader: batch size is {}, expected 1 or more", batch_size);
  VT_CHECK(workers >= 0 && workers <= 1024, "loader: {} workers, expected 0 to 1024", workers);
  VT_CHECK(prefetch >= 1, "loader: prefetch is {}, expected 1 or more", prefetch);
  VT_CHECK(shuffle || repeats == 1, "loader: {} repeats without shuffling, expected 1", repeats);
  VT_CHECK(repeats >= 1 && repeats <= 100, "loader: {} repeats of each image, expected 1 to 100", repeats);
  VT_CHECK(bad_samples_allowed >= 0, "loader: {} bad samples allowed, expected 0 or more", bad_samples_allowed);
  VT_CHECK(batches_per_epoch(dataset->size()) > 0,
           "loader: batch size is {}, expected at most the {} samples of the dataset", batch_size,
           samples(dataset->size()));
  VT_CHECK(classes == 0 || classes >= dataset->num_classes(),
           "loader: targets of {} classes, expected at least the {} of the dataset", classes, dataset->num_classes());
  if (!mixing) return;
  mixing->check();
  const std::int64_t last = drop_last ? 0 : samples(dataset->size()) % batch_size;
  VT_CHECK(!mixing->mixes(0) || (batch_size % 2 == 0 && last % 2 == 0),
           "loader: batch size is {} (the last batch: {}), expected even numbers for mixup and cutmix", batch_size,
           last == 0 ? batch_size : last);
}

std::int64_t LoaderOptions::batches_per_epoch(std::int64_t size) const {
  return drop_last ? samples(size) / batch_size : (samples(size) + batch_size - 1) / batch_size;
}

std::int64_t samples_per_epoch(std::int64_t size, int repeats) {
  const std::int64_t multiple = 256;
  return repeats > 1 && size >= multiple ? size / multiple * multiple : size;
}

std::vector<std::int64_t> repeated_order(const std::vector<std::int64_t>& order, int repeats) {
  const std::int64_t count = samples_per_epoch(static_cast<std::int64_t>(order.size()), repeats);
  std::vector<std::int64_t> repeated(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < repeated.size(); ++i) repeated[i] = order[i / static_cast<std::size_t>(repeats)];
  return repeated;
}

std::vector<std::int64_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  RandomSequence random(seed, Purpose::shuffle, static_cast<std::uint64_t>(epoch));
  for (std::int64_t i = size - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random.integer(i + 1))]);
  }
  return order;
}

std::vector<std::int64_t> sample_order(const LoaderOptions& options, std::int64_t size, std::int64_t epoch) {
  if (options.shuffle) return repeated_order(epoch_order(size, options.seed, epoch), options.repeats);
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  return order;
}

RandomSequence augmentation_numbers(const LoaderOptions& options, std::int64_t epoch, std::int64_t position,
                                    std::int64_t index, std::int64_t size) {
  const std::int64_t repeat = position % options.repeats;
  const std::uint64_t stream =
      static_cast<std::uint64_t>(epoch) << 32 | static_cast<std::uint64_t>(index + repeat * size);
  return {options.seed, Purpose::augmentation, stream};
}

void check_start(std::int64_t epoch, std::int64_t first_batch, std::int64_t batches) {
  VT_CHECK(epoch >= 0 && first_batch >= 0 && first_batch <= batches,
           "loader: cannot start epoch {} at batch {}, expected epoch >= 0 and batch 0 to {}", epoch, first_batch,
           batches);
}

Sample checked_sample(const Dataset& dataset, std::int64_t index) {
  Sample sample = dataset.get(index);
  VT_CHECK(sample.label >= 0 && sample.label < dataset.num_classes(), "label {}, expected 0 to {}", sample.label,
           dataset.num_classes() - 1);
  return sample;
}

void BadSamples::note(std::int64_t index, const std::string& reason) {
  const std::string name = dataset_->name(index);
  const std::string line = reason.starts_with(name) ? reason : name + ": " + reason;
  const std::lock_guard lock(mutex_);
  reasons_.emplace(index, line);
  const auto count = static_cast<std::int64_t>(reasons_.size());
  if (count <= allowed_) return;
  throw Error(allowed_ == 0 ? line : fmt::format("{} (bad sample number {}, {} are allowed)", line, count, allowed_));
}

std::vector<std::string> BadSamples::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> lines;
  for (const auto& [index, line] : reasons_) lines.push_back(line);
  return lines;
}

}  // namespace vitrine
