// What a pickle of PyTorch says of tensors: which lie in its state dict, and how each lies in its
// storage.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weights/files/elements.h"
#include "weights/formats/pickle.h"

namespace vitrine {

/// One storage of a file: `key` is its name there.
struct TorchStorage {
  std::string key;
  const ElementType* type = nullptr;  // nullptr: bytes, typed by each tensor
  std::uint64_t elements = 0;         // bytes where there is no type

  std::uint64_t bytes() const;  // at most 2^63
};

/// A tensor as a view of a storage, all in elements.
struct TorchTensor {
  std::string name;
  TorchStorage storage;
  const ElementType* type = nullptr;
  Shape shape;
  Strides strides;
  std::int64_t offset = 0;
};

struct TorchState {
  std::vector<TorchTensor> tensors;  // checked: each lies within its storage
  std::vector<std::string> notes;
};

/// Whether a pickle of tensors may have this name.
bool is_torch_name(const std::string& name);

/// The state dict of a checkpoint; Error, beginning with `where`, where there is none.
TorchState find_torch_state(const Pickle& pickle, const std::string& where);

/// All storages that a pickle names, by key; Error where one key has two sizes.
std::vector<TorchStorage> torch_storages(const Pickle& pickle, const std::string& where);

}  // namespace vitrine
