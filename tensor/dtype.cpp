// Names and sizes of the element types.
#include "tensor/dtype.h"

#include <array>
#include <string>

namespace vitrine {
namespace {

struct DTypeFact {
  DType dtype;
  std::string_view name;
  std::size_t bytes;
};

constexpr std::array<DTypeFact, 7> facts{{{DType::f32, "f32", 4},
                                          {DType::f64, "f64", 8},
                                          {DType::bf16, "bf16", 2},
                                          {DType::i32, "i32", 4},
                                          {DType::i64, "i64", 8},
                                          {DType::u8, "u8", 1},
                                          {DType::boolean, "bool", 1}}};

}  // namespace

std::size_t size_of(DType dtype) { return facts[static_cast<std::size_t>(dtype)].bytes; }
std::string_view name_of(DType dtype) { return facts[static_cast<std::size_t>(dtype)].name; }

DType dtype_from_name(std::string_view name) {
  std::string accepted;
  for (const DTypeFact& fact : facts) {
    if (fact.name == name) return fact.dtype;
    accepted += accepted.empty() ? "" : ", ";
    accepted += fact.name;
  }
  throw Error(fmt::format("dtype: '{}' is unknown, expected one of {}", name, accepted));
}

}  // namespace vitrine
