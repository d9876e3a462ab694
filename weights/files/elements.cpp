// The table of element types, and the widening of those that no tensor of ours has.
#include "weights/files/elements.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace vitrine {
namespace {

constexpr ElementType types[] = {
    {"F32", "float32", "FloatStorage", "f4", 4, DType::f32},
    {"F64", "float64", "DoubleStorage", "f8", 8, DType::f64},
    {"BF16", "bfloat16", "BFloat16Storage", "V2", 2, DType::bf16},  // JAX's files call it two bytes of anything
    {"F16", "float16", "HalfStorage", "f2", 2, DType::f32},
    {"I64", "int64", "LongStorage", "i8", 8, DType::i64},
    {"I32", "int32", "IntStorage", "i4", 4, DType::i32},
    {"I16", "int16", "ShortStorage", "i2", 2, DType::i32},
    {"I8", "int8", "CharStorage", "i1", 1, DType::i32},
    {"U8", "uint8", "ByteStorage", "u1", 1, DType::u8},
    {"U16", "uint16", "", "u2", 2, DType::i32},
    {"BOOL", "bool", "BoolStorage", "b1", 1, DType::boolean},
    {"U32", "uint32", "", "u4", 4, {}},
    {"U64", "uint64", "", "u8", 8, {}},
    {"F8_E4M3", "float8_e4m3fn", "", "", 1, {}},
    {"F8_E5M2", "float8_e5m2", "", "", 1, {}},
};

/// Elements of type `From`, each a `To` made by `convert`.
template <class From, class To, class Convert>
void widen(std::span<const std::byte> bytes, Tensor& tensor, Convert convert) {
  To* out = tensor.data<To>();
  const std::size_t count = bytes.size() / sizeof(From);
  for (std::size_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, bytes.data() + i * sizeof(From), sizeof(From));
    out[i] = static_cast<To>(convert(value));
  }
}

}  // namespace

std::span<const ElementType> element_types() { return types; }

const ElementType* find_element_type(std::string_view ElementType::*column, std::string_view name) {
  if (name.empty()) return nullptr;
  const auto found = std::ranges::find(types, name, column);
  return found == std::end(types) ? nullptr : &*found;
}

std::string readable_types(std::string_view ElementType::*column) {
  std::vector<std::string_view> names;
  for (const ElementType& type : types) {
    if (type.dtype && !(type.*column).empty()) names.push_back(type.*column);
  }
  const std::string_view last = names.back();
  names.pop_back();
  return fmt::format("{} or {}", fmt::join(names, ", "), last);
}

float float_of_half(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, mantissa = bits & 0x3FFu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));  // inf, NaN
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);  // subnormal, or 0
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

Tensor tensor_of_elements(const ElementType& type, const Shape& shape, std::span<const std::byte> bytes,
                          const std::string& where) {
  VT_CHECK(type.dtype, "{} has dtype {}, expected {}", where, type.safetensors.empty() ? type.torch : type.safetensors,
           readable_types(&ElementType::safetensors));
  Tensor tensor = empty(shape, *type.dtype);
  VT_CHECK(bytes.size() == static_cast<std::size_t>(tensor.numel()) * type.bytes, "{} holds {} bytes, expected {}",
           where, bytes.size(), static_cast<std::size_t>(tensor.numel()) * type.bytes);
  const auto same = [](auto value) { return value; };
  if (bytes.empty()) {
    return tensor;
  } else if (type.torch == "float16") {
    widen<std::uint16_t, float>(bytes, tensor, float_of_half);
  } else if (type.torch == "int16") {
    widen<std::int16_t, std::int32_t>(bytes, tensor, same);
  } else if (type.torch == "uint16") {
    widen<std::uint16_t, std::int32_t>(bytes, tensor, same);
  } else if (type.torch == "int8") {
    widen<std::int8_t, std::int32_t>(bytes, tensor, same);
  } else {
    std::memcpy(tensor.raw_data(), bytes.data(), bytes.size());
  }
  if (type.dtype == DType::boolean) {
    const auto bad = std::ranges::find_if(bytes, [](std::byte b) { return b > std::byte{1}; });
    VT_CHECK(bad == bytes.end(), "{} has the byte {} as a BOOL, expected 0 or 1", where, static_cast<int>(*bad));
  }
  return tensor;
}

}  // namespace vitrine
