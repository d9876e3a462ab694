// xxh64: a 64-bit hash of a block of memory, fast enough to check every checkpoint that is written
// or read.
//
// Source: the specification of XXH64 by Yann Collet ("xxHash fast digest algorithm", version
// 0.1.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace vitrine {

std::uint64_t xxh64(std::span<const std::byte> data, std::uint64_t seed = 0);

/// The hash as 16 lower-case hexadecimal digits.
std::string hash_text(std::uint64_t hash);

}  // namespace vitrine
