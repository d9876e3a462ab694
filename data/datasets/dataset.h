// Datasets: numbered labelled images, from a folder, from the binary files of CIFAR and MNIST, or
// drawn on the spot.
//
//   auto train = open_dataset({.root = "data/cifar10", .split = "train"});  // finds out what the folder holds
//   Sample sample = train->get(17);                                         // image and label
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/datasets/class_order.h"
#include "data/image/image.h"

namespace vitrine {

struct Sample {
  Image image;             // RGB
  std::int64_t label = 0;  // 0 ... num_classes - 1
};

/// A fixed list of samples. Every const function may be called from many threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  /// Throws an Error that names the sample when it cannot be read.
  virtual Sample get(std::int64_t index) const = 0;
  /// What messages call the sample: its path, or the file and the number of the record.
  virtual std::string name(std::int64_t index) const = 0;

  const std::vector<std::string>& class_names() const { return class_names_; }
  std::int64_t num_classes() const { return static_cast<std::int64_t>(class_names_.size()); }
  /// What a user should know, a line each: which files of the folder are not in the dataset.
  const std::vector<std::string>& notes() const { return notes_; }

 protected:
  std::vector<std::string> class_names_, notes_;
};

using DatasetPtr = std::shared_ptr<const Dataset>;

// ---- One function for each kind ----

/// `folder`/<class>/.../<file>, at any depth, of every format of data/formats/formats.h by its
/// extension in any letter case. Hidden files and folders (.DS_Store, ._x.png) and other files are
/// left out, and notes() names them; links are followed, but not to a folder above. A missing
/// folder, no class, or a class without an image is an Error.
DatasetPtr open_image_folder(const std::filesystem::path& folder, ClassOrder order = ClassOrder::sorted);
/// The folder `root`/`split`; for an evaluation split, that of any of its usual names.
DatasetPtr open_image_folder(const std::filesystem::path& root, const std::string& split,
                             ClassOrder order = ClassOrder::sorted);

/// data_batch_1.bin ... data_batch_5.bin or test_batch.bin (CIFAR-10), train.bin or test.bin with
/// the fine label (CIFAR-100), at `root` or in the folder that the published archive makes there.
/// Names of the classes come from batches.meta.txt or fine_label_names.txt where present, else they
/// are "0", "1", ...
DatasetPtr open_cifar10(const std::filesystem::path& root, const std::string& split);
DatasetPtr open_cifar100(const std::filesystem::path& root, const std::string& split);

/// Images (N, H, W) and labels (N) of unsigned bytes in IDX files, with or without gzip.
DatasetPtr open_idx(const std::filesystem::path& images, const std::filesystem::path& labels);
/// The two such files in `root` that have the usual names, train-images-idx3-ubyte or
/// t10k-images-idx3-ubyte.
DatasetPtr open_mnist(const std::filesystem::path& root, const std::string& split);

/// `size` drawings of ten shapes at 32 x 32: random position, angle, size, slant, line width,
/// colours, background, noise and stray lines. Sample `index` is a pure function of (seed, split,
/// index).
DatasetPtr make_shapes(std::int64_t size, const std::string& split, std::uint64_t seed = 0);

// ---- All kinds ----

struct DatasetOptions {
  std::string kind = {};                        // of dataset_kinds(); empty: found out from `root`
  std::filesystem::path root = {};              // not used by shapes
  std::string split = "train";                  // or any of evaluation_splits: the one of them that is there
  ClassOrder class_order = ClassOrder::sorted;  // of an image folder
  std::int64_t train_size = 20'000;             // of shapes
  std::int64_t test_size = 2'000;               // of shapes
  std::uint64_t seed = 0;                       // of shapes
  std::size_t memory = std::size_t{1} << 30;    // in bytes; a dataset whose pixels fit is decoded once and kept
  int threads = 0;                              // that decode it; 0 = one per core
};

/// Opens the dataset, or throws an Error that says what was looked for and which kinds there are.
DatasetPtr open_dataset(const DatasetOptions& options);

/// The kind that `root` holds, by its files. Throws an Error that lists what would be recognised.
std::string detect_dataset_kind(const std::filesystem::path& root);

// ---- What the kinds share ----

/// All of `dataset` decoded now by `threads` threads (0 = one per core) and kept as bytes. Samples
/// that cannot be read throw from get(), as before.
DatasetPtr cache_in_memory(DatasetPtr dataset, int threads = 0);
/// The same if all pixels together take no more than `memory` bytes, judged by 16 samples; else
/// `dataset` itself.
DatasetPtr cache_if_small(DatasetPtr dataset, std::size_t memory, int threads);

/// The names that the evaluation split goes by.
inline constexpr std::array evaluation_splits = {"test", "val", "validation"};
bool is_evaluation_split(const std::string& split);
/// Throws an Error that begins with `source` unless the split is train or one of those.
void check_split(std::string_view source, const std::string& split);

}  // namespace vitrine
