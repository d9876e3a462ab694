// What the names of tensors in a checkpoint begin with, besides the weights, which stand under
// their own names.
#pragma once

#include <string_view>

namespace vitrine {

inline constexpr std::string_view average_prefix = "ema/", optimizer_prefix = "optimizer/";

}  // namespace vitrine
