// Element types of weight files: what safetensors, PyTorch and NumPy call each, and the type that
// it becomes here. What we do not compute with, such as f16, is widened to the next type that we
// do.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace vitrine {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Tensors of a file, and what its reader did that a user should know.
struct FileTensors {
  NamedTensors tensors;
  std::vector<std::string> notes;
};

/// Names are empty where the library has none.
struct ElementType {
  std::string_view safetensors;     // "F16"
  std::string_view torch, storage;  // "float16", "HalfStorage": of torch.float16 and torch.HalfStorage
  std::string_view numpy;           // "f2", behind the sign of its byte order
  std::size_t bytes = 0;
  std::optional<DType> dtype;  // none: legal in a file, but not readable here
};

/// All of them.
std::span<const ElementType> element_types();
/// The row whose `column` is `name`; nullptr where there is none.
const ElementType* find_element_type(std::string_view ElementType::*column, std::string_view name);
/// The names in `column` of the types that can be read, for messages.
std::string readable_types(std::string_view ElementType::*column);

/// Elements in row-major order -> a tensor on the CPU. `bytes` must hold as many as `shape` asks
/// for. Error, beginning with `where`, for a type that cannot be read.
Tensor tensor_of_elements(const ElementType& type, const Shape& shape, std::span<const std::byte> bytes,
                          const std::string& where);

/// IEEE 754 binary16 -> float, exactly.
float float_of_half(std::uint16_t bits);

}  // namespace vitrine
