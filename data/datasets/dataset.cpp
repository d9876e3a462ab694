// Keeping decoded samples in memory, and the names of splits.
#include "data/datasets/dataset.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "tensor/error.h"

namespace vitrine {
namespace {

/// Calls body(i) for 0 ... count - 1 on `threads` threads of its own. Not parallel_for: decoding
/// may wait for the disk, and must not keep the threads of the ops busy.
template <class Body>
void for_each_on_threads(std::int64_t count, int threads, const Body& body) {
  if (threads <= 0) threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::atomic<std::int64_t> next = 0;
  const auto work = [&] {
    for (std::int64_t i = next++; i < count; i = next++) body(i);
  };
  std::vector<std::jthread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
}

class MemoryDataset : public Dataset {
 public:
  MemoryDataset(DatasetPtr source, int threads) : source_(std::move(source)) {
    class_names_ = source_->class_names();
    notes_ = source_->notes();
    const auto count = static_cast<std::size_t>(source_->size());
    samples_.resize(count);
    failures_.resize(count);
    for_each_on_threads(source_->size(), threads, [this](std::int64_t index) {
      const auto i = static_cast<std::size_t>(index);
      try {
        samples_[i] = source_->get(index);
      } catch (const std::exception& failure) {
        failures_[i] = failure.what();
      }
    });
  }
  std::int64_t size() const override { return source_->size(); }
  std::string name(std::int64_t index) const override { return source_->name(index); }
  Sample get(std::int64_t index) const override {
    const auto i = static_cast<std::size_t>(index);
    VT_CHECK(index >= 0 && index < size(), "dataset: no sample {}, there are {}", index, size());
    if (!failures_[i].empty()) throw Error(failures_[i]);
    return samples_[i];
  }

 private:
  DatasetPtr source_;
  std::vector<Sample> samples_;
  std::vector<std::string> failures_;  // the message where a sample could not be read, else empty
};

/// Whether all samples together take no more than `memory` bytes, judged by 16 of them.
bool fits_in(const Dataset& dataset, std::size_t memory) {
  const std::int64_t probes = std::min<std::int64_t>(16, dataset.size());
  std::size_t largest = 0;
  for (std::int64_t i = 0; i < probes; ++i) {
    try {
      largest = std::max(largest, dataset.get(i * dataset.size() / probes).image.pixels.size());
    } catch (const Error&) {
      // A bad sample is reported when it is asked for, not here.
    }
  }
  return largest > 0 && largest <= memory / static_cast<std::size_t>(dataset.size());
}

}  // namespace

DatasetPtr cache_in_memory(DatasetPtr dataset, int threads) {
  return std::make_shared<MemoryDataset>(std::move(dataset), threads);
}

DatasetPtr cache_if_small(DatasetPtr dataset, std::size_t memory, int threads) {
  return fits_in(*dataset, memory) ? cache_in_memory(std::move(dataset), threads) : dataset;
}

bool is_evaluation_split(const std::string& split) {
  return std::ranges::find(evaluation_splits, split) != evaluation_splits.end();
}

void check_split(std::string_view source, const std::string& split) {
  VT_CHECK(split == "train" || is_evaluation_split(split),
           "{}: split is \"{}\", expected train, test, val or validation", source, split);
}

}  // namespace vitrine
