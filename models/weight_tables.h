// The names that other libraries give to weights, one table for each library and architecture. Private to models/.
#pragma once

#include <string>
#include <vector>

#include "models/name_pattern.h"
#include "models/weight_layouts.h"

namespace vitrine {

/// One kind of weight. Where their pattern has words `[query|key|value]`, ours is those tensors one after the other
/// along dim 0.
struct NameRow {
  NamePattern ours, theirs;
  bool flat_grid = false;  // theirs (1, H W, C) is our (1, H, W, C)
};

/// The names of one library for one architecture.
struct NameTable {
  std::string description;  // "torchvision's Swin"
  std::string architecture;
  WeightLayout layout = WeightLayout::timm;
  bool is_written = true;  // false: an older form, or one in memory, which is read alone
  std::vector<NameRow> rows;
  std::vector<NamePattern> derived;  // buffers that follow from the sizes, such as index tables and masks
  std::string base;  // begins the names of the model without its head, and is left out in files of that alone
};

/// All of them; for each architecture ours (timm's) before the others.
const std::vector<NameTable>& name_tables();

}  // namespace vitrine
