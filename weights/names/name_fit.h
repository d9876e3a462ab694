// Which library's names a file has, and what wrappers such as DistributedDataParallel,
// torch.compile or a training script have put before them: both are found by trying what makes the
// most names known.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weights/names/weight_tables.h"

namespace vitrine {

/// A row, and what its variables stand for in one name.
struct FoundRow {
  const NameRow* row = nullptr;
  NameMatch match;
};

std::optional<FoundRow> find_row(const NameTable& table, const NamePattern NameRow::*side, std::string_view name);
bool any_matches(const std::vector<NamePattern>& patterns, std::string_view name);

struct NameFit {
  const NameTable* table = nullptr;  // nullptr: nothing is known
  std::string prefix;                // stands before most names, or is empty
  bool has_base = true;              // whether the names have the table's base, such as "vit."

  /// The name as the table has it: without prefix, with base.
  std::string full_name(const std::string& name) const;
  /// Whether the table has a row for it, or it is a buffer or layer that is left out.
  bool knows(const std::string& full) const;
};

/// The table and prefix that understand most of the names; of equals the shorter prefix, but that
/// of a moving average before others, and the first table.
///
/// For example, a file has "module.features.3.1.mlp.0.weight", and most of its other names begin
/// with "module." too: that is the prefix, which goes. What remains has a row in the table
/// "torchvision's Swin", and in no other:
///
///   theirs  features.{2s+1}.{j}.mlp.0.*       matches with s = 1, j = 1, * = weight
///   ours    layers.{s}.blocks.{j}.mlp.fc1.*   filled in: layers.1.blocks.1.mlp.fc1.weight
///
/// All names are counted so. This table has rows for most of them and is chosen. Had it been
/// "timm's Swin", of the role `ours`, then the names would stay as they are.
NameFit fit_names(const std::vector<std::string>& names);

}  // namespace vitrine
