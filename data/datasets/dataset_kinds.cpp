// The table of kinds, and opening a dataset by its row.
#include "data/datasets/dataset_kinds.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <initializer_list>

#include "tensor/error.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

bool holds_any(const fs::path& root, std::initializer_list<const char*> files) {
  return std::ranges::any_of(files, [&](const char* file) { return fs::exists(root / file); });
}

/// Whether the name of a file in `root` contains `part`.
bool holds_name_with(const fs::path& root, std::string_view part) {
  return std::ranges::any_of(fs::directory_iterator(root), [part](const fs::directory_entry& entry) {
    return entry.path().filename().string().find(part) != std::string::npos;
  });
}

/// The split of a format that has a training and an evaluation set and no other.
const std::string& checked_split(const DatasetOptions& options) {
  check_split("dataset", options.split);
  return options.split;
}

DatasetPtr open_shapes(const DatasetOptions& o) {
  return make_shapes(o.split == "train" ? o.train_size : o.test_size, o.split, o.seed);
}

}  // namespace

const std::vector<DatasetKind>& dataset_kinds() {
  static const std::vector<DatasetKind> kinds = {
      {"folder", "", "train/<class>/<file>.jpg (and val or test)",
       [](const fs::path& root) {
         return holds_any(root, {"train", "test", "val", "validation"});
       },
       [](const DatasetOptions& o) {
         return cache_if_small(open_image_folder(o.root, o.split, o.class_order), o.memory, o.threads);
       }},
      {"cifar10", "", "data_batch_1.bin (CIFAR-10)",
       [](const fs::path& root) {
         return holds_any(root, {"data_batch_1.bin", "test_batch.bin", "cifar-10-batches-bin"});
       },
       [](const DatasetOptions& o) { return open_cifar10(o.root, checked_split(o)); }},
      {"cifar100", "", "train.bin (CIFAR-100)",
       [](const fs::path& root) {
         return holds_any(root, {"train.bin", "test.bin", "cifar-100-binary"});
       },
       [](const DatasetOptions& o) { return open_cifar100(o.root, checked_split(o)); }},
      {"mnist", "idx", "train-images-idx3-ubyte[.gz] (MNIST)",
       [](const fs::path& root) { return holds_name_with(root, "idx3-ubyte"); },
       [](const DatasetOptions& o) { return open_mnist(o.root, checked_split(o)); }},
      {"shapes", "", "drawn by the program", nullptr,
       [](const DatasetOptions& o) { return cache_if_small(open_shapes(o), o.memory, o.threads); }},
  };
  return kinds;
}

std::vector<std::string> dataset_kind_names() {
  std::vector<std::string> names;
  for (const DatasetKind& kind : dataset_kinds()) {
    names.push_back(kind.name);
    if (!kind.synonym.empty()) names.push_back(kind.synonym);
  }
  return names;
}

std::string dataset_kinds_help() {
  std::vector<std::string> lines;
  for (const DatasetKind& kind : dataset_kinds()) lines.push_back(fmt::format("{}: {}", kind.name, kind.help));
  return fmt::format("{}", fmt::join(lines, ", "));
}

std::string detect_dataset_kind(const fs::path& root) {
  VT_CHECK(fs::is_directory(root), "{}: no such folder", root.string());
  const std::vector<DatasetKind>& kinds = dataset_kinds();
  const auto is_held = [&](const DatasetKind& kind) { return kind.lies_in && kind.lies_in(root); };
  // The image folder is asked last: a folder called train may stand beside the files of any other
  // kind.
  const auto found = std::find_if(kinds.begin() + 1, kinds.end(), is_held);
  if (found != kinds.end()) return found->name;
  if (is_held(kinds.front())) return kinds.front().name;

  std::vector<std::string> expected;
  for (const DatasetKind& kind : kinds) {
    if (kind.lies_in) expected.push_back(kind.help);
  }
  throw Error(fmt::format("{}: not a dataset: expected {} or {}", root.string(),
                          fmt::join(expected.begin(), expected.end() - 1, ", "), expected.back()));
}

DatasetPtr open_dataset(const DatasetOptions& options) {
  const std::string name = options.kind.empty() ? detect_dataset_kind(options.root) : options.kind;
  std::vector<std::string> accepted;
  for (const DatasetKind& kind : dataset_kinds()) {
    if (kind.name == name || (kind.synonym == name && !name.empty())) {
      VT_CHECK(!kind.lies_in || !options.root.empty(), "dataset: kind \"{}\" needs a folder", name);
      VT_CHECK(!kind.lies_in || fs::is_directory(options.root), "{}: no such folder", options.root.string());
      return kind.open(options);
    }
    accepted.push_back(kind.synonym.empty() ? kind.name : fmt::format("{} (or {})", kind.name, kind.synonym));
  }
  throw Error(fmt::format("dataset: kind is \"{}\", expected one of {}", name, fmt::join(accepted, ", ")));
}

}  // namespace vitrine
