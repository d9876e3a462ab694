// The integer square root, for what is a square and kept as a list. Private to models/.
#pragma once

#include <cmath>
#include <cstdint>

namespace vitrine {

/// The integer above 0 whose square is `count`, or -1.
inline std::int64_t square_side(std::int64_t count) {
  if (count <= 0) return -1;
  const auto side = static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(count))));
  return side * side == count ? side : -1;
}

}  // namespace vitrine
