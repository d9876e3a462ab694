// Element types: the enumeration, bfloat16, and the dispatch from a run-time type to a C++ type.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "tensor/device/host_device.h"
#include "tensor/error.h"

namespace vitrine {

enum class DType : std::uint8_t { f32, f64, bf16, i32, i64, u8, boolean };

/// The upper half of a float: 8 exponent bits, 7 mantissa bits. Arithmetic happens in float.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  /// Rounds to nearest, ties to even; NaN stays NaN.
  VT_HD explicit bfloat16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    const bool is_nan = (u & 0x7FFFFFFFu) > 0x7F800000u;
    bits = static_cast<std::uint16_t>(is_nan ? ((u >> 16) | 0x40u) : rounded);
  }
  VT_HD operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// The type that kernels compute in after they load a T: float for bf16 and f32, double for f64,
/// itself for integers.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, bfloat16>, float, T>;

template <class T>
struct TypeTag {
  using type = T;
};

std::size_t size_of(DType dtype);              // bytes per element
std::string_view name_of(DType dtype);         // "f32", "bool", ...
DType dtype_from_name(std::string_view name);  // throws and lists the names

constexpr bool is_floating(DType d) { return d == DType::f32 || d == DType::f64 || d == DType::bf16; }
constexpr bool is_integer(DType d) { return d == DType::i32 || d == DType::i64 || d == DType::u8; }

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, bfloat16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return DType::i64;
  else if constexpr (std::is_same_v<T, std::uint8_t>)
    return DType::u8;
  else {
    static_assert(std::is_same_v<T, bool>, "not an element type of a tensor");
    return DType::boolean;
  }
}

/// Calls body(TypeTag<T>{}) with the floating type that `dtype` names; anything else is an error of
/// `op`.
template <class Body>
decltype(auto) dispatch_floating(DType dtype, std::string_view op, Body&& body) {
  return in_op(op, [&]() -> decltype(auto) {
    switch (dtype) {
      case DType::f32:
        return body(TypeTag<float>{});
      case DType::f64:
        return body(TypeTag<double>{});
      case DType::bf16:
        return body(TypeTag<bfloat16>{});
      default:
        throw Error(fmt::format("{}: dtype is {}, expected f32, f64 or bf16", op, name_of(dtype)));
    }
  });
}

/// The same for the arithmetic dtypes: floating, i32 and i64.
template <class Body>
decltype(auto) dispatch_numeric(DType dtype, std::string_view op, Body&& body) {
  switch (dtype) {
    case DType::i32:
      return body(TypeTag<std::int32_t>{});
    case DType::i64:
      return body(TypeTag<std::int64_t>{});
    default:
      return dispatch_floating(dtype, op, body);
  }
}

/// The same for every element type.
template <class Body>
decltype(auto) dispatch_all(DType dtype, std::string_view op, Body&& body) {
  switch (dtype) {
    case DType::u8:
      return body(TypeTag<std::uint8_t>{});
    case DType::boolean:
      return body(TypeTag<bool>{});
    default:
      return dispatch_numeric(dtype, op, body);
  }
}

/// The same for what may index another tensor: i32 and i64.
template <class Body>
decltype(auto) dispatch_index(DType dtype, std::string_view op, Body&& body) {
  switch (dtype) {
    case DType::i32:
      return body(TypeTag<std::int32_t>{});
    case DType::i64:
      return body(TypeTag<std::int64_t>{});
    default:
      throw Error(fmt::format("{}: index dtype is {}, expected i32 or i64", op, name_of(dtype)));
  }
}

}  // namespace vitrine
