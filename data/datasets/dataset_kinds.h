// The kinds of datasets that open_dataset knows: one row for each, from which detection, messages,
// checks and the flag --dataset take what they need.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"

namespace vitrine {

struct DatasetKind {
  std::string name;
  std::string synonym;  // also accepted; empty: none
  std::string help;     // what its folder holds, for messages and for --help
  /// Whether the folder holds this kind. Null for datasets that need no folder.
  bool (*lies_in)(const std::filesystem::path& root);
  /// Opens a dataset whose root, where it needs one, is a folder.
  DatasetPtr (*open)(const DatasetOptions& options);
};

/// The first row is the image folder.
const std::vector<DatasetKind>& dataset_kinds();

/// All names and synonyms.
std::vector<std::string> dataset_kind_names();

/// "folder: train/<class>/<file>.jpg (and val or test), cifar10: data_batch_1.bin, ...": the help
/// of each kind.
std::string dataset_kinds_help();

}  // namespace vitrine
