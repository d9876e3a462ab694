// The names that other libraries give to weights, one table for each library and architecture.
// Private to weights/.
#pragma once

#include <string>
#include <vector>

#include "weights/names/name_pattern.h"
#include "weights/names/tensor_form.h"

namespace vitrine {

/// One kind of weight. Where their pattern has words `[query|key|value]`, ours is those tensors one
/// after the other along dim 0.
struct NameRow {
  NamePattern ours, theirs;
  TensorForm form = TensorForm::same;
};

/// What a table serves for, besides reading files with its names.
enum class TableRole {
  ours,         // timm's names, which both sides of its rows are: what they name needs no translation
  torchvision,  // to_layout writes these names for torchvision
  huggingface,  // and these for Hugging Face
  only_read     // an older form, or one in memory
};

/// The names of one library for one architecture.
struct NameTable {
  std::string description;  // "torchvision's Swin"
  std::string architecture;
  TableRole role = TableRole::only_read;
  std::vector<NameRow> rows;
  std::string base = {};  // begins the names of the model without its head, and is left out in files of that alone
  std::vector<NamePattern> derived = {};  // buffers that follow from the sizes, such as index tables and masks
  std::vector<NamePattern> unused = {};   // layers of the library's models that its classifiers do not use
};

/// Those of Google's .npz files (weights/names/google_tables.cpp).
std::vector<NameTable> google_tables();

/// All of them; for each architecture ours (timm's) before the others.
const std::vector<NameTable>& name_tables();

}  // namespace vitrine
