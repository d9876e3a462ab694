// Opening datasets by kind, finding out the kind, and keeping decoded samples in memory.
#include "data/datasets/dataset.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "tensor/error.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view accepted_kinds = "folder, cifar10, cifar100, mnist (or idx), shapes";
constexpr std::array<const char*, 3> evaluation_splits = {"test", "val", "validation"};

/// Calls body(i) for 0 ... count - 1 on `threads` threads of its own. Not parallel_for: decoding may wait for
/// the disk, and must not keep the threads of the ops busy.
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

DatasetPtr hold_if_small(DatasetPtr dataset, const DatasetOptions& options) {
  if (!fits_in(*dataset, options.memory)) return dataset;
  return hold_in_memory(std::move(dataset), options.threads);
}

/// root/split; for an evaluation split any of its usual names.
fs::path split_folder(const fs::path& root, const std::string& split) {
  if (fs::is_directory(root / split)) return root / split;
  const bool evaluation = std::ranges::find(evaluation_splits, split) != evaluation_splits.end();
  if (evaluation) {
    for (const char* other : evaluation_splits) {
      if (fs::is_directory(root / other)) return root / other;
    }
  }
  throw Error(fmt::format("{}: no such folder; an image folder is {}/{}/<class>/<file>", (root / split).string(),
                          root.string(), evaluation ? "{test, val or validation}" : split));
}

/// The one file in `root` whose name ends with one of the usual spellings of MNIST's, such as
/// train-images-idx3-ubyte.gz.
fs::path find_idx_file(const fs::path& root, const std::string& stem, int dims) {
  const std::string dashes = fmt::format("{}-idx{}-ubyte", stem, dims);
  const std::string dots = fmt::format("{}.idx{}-ubyte", stem, dims);
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string file = entry.path().filename().string();
    for (const std::string& ending : {dashes, dots, dashes + ".gz", dots + ".gz"}) {
      if (file.ends_with(ending)) found.push_back(entry.path());
    }
  }
  VT_CHECK(!found.empty(), "{}: no file {} (or {}.gz)", root.string(), dashes, dashes);
  return *std::ranges::min_element(found);
}

DatasetPtr open_mnist(const fs::path& root, const std::string& split) {
  const std::string stem = split == "train" ? "train" : "t10k";
  const fs::path images = find_idx_file(root, stem + "-images", 3), labels = find_idx_file(root, stem + "-labels", 1);
  return open_idx(images, labels);
}

bool has_idx_files(const fs::path& root) {
  return std::ranges::any_of(fs::directory_iterator(root), [](const fs::directory_entry& entry) {
    return entry.path().filename().string().find("idx3-ubyte") != std::string::npos;
  });
}

}  // namespace

DatasetPtr hold_in_memory(DatasetPtr dataset, int threads) {
  return std::make_shared<MemoryDataset>(std::move(dataset), threads);
}

std::string detect_dataset_kind(const fs::path& root) {
  VT_CHECK(fs::is_directory(root), "{}: no such folder", root.string());
  const auto has = [&](const char* file) { return fs::exists(root / file); };
  if (has("data_batch_1.bin") || has("test_batch.bin") || has("cifar-10-batches-bin")) return "cifar10";
  if (has("train.bin") || has("test.bin") || has("cifar-100-binary")) return "cifar100";
  if (has_idx_files(root)) return "mnist";
  if (has("train") || has("test") || has("val") || has("validation")) return "folder";
  throw Error(
      fmt::format("{}: not a dataset: expected train/<class>/<file>.jpg (and val or test), data_batch_1.bin "
                  "(CIFAR-10), train.bin (CIFAR-100) or train-images-idx3-ubyte[.gz] (MNIST)",
                  root.string()));
}

DatasetPtr open_dataset(const DatasetOptions& options) {
  const std::string kind = options.kind.empty() ? detect_dataset_kind(options.root) : options.kind;
  const std::string& split = options.split;
  if (kind == "shapes") {
    const std::int64_t size = split == "train" ? options.train_size : options.test_size;
    return hold_if_small(make_shapes(size, split, options.seed), options);
  }
  VT_CHECK(kind == "folder" || kind == "cifar10" || kind == "cifar100" || kind == "mnist" || kind == "idx",
           "dataset: kind is \"{}\", expected one of {}", kind, accepted_kinds);
  VT_CHECK(!options.root.empty(), "dataset: kind \"{}\" needs a folder", kind);
  VT_CHECK(fs::is_directory(options.root), "{}: no such folder", options.root.string());
  if (kind == "folder") return hold_if_small(open_image_folder(split_folder(options.root, split)), options);
  VT_CHECK(split == "train" || std::ranges::find(evaluation_splits, split) != evaluation_splits.end(),
           "dataset: split is \"{}\", expected train, test, val or validation", split);
  if (kind == "cifar10") return open_cifar10(options.root, split);
  if (kind == "cifar100") return open_cifar100(options.root, split);
  return open_mnist(options.root, split);
}

}  // namespace vitrine
