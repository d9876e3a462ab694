// ArenaSegment: a part of an optimiser's arenas that one call of its update covers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vitrine {

/// Neighbouring parameters of one group, all of which have a gradient.
struct ArenaSegment {
  std::int64_t begin = 0, end = 0;  // in elements
  double learning_rate = 0;         // with the group's scale
  double weight_decay = 0;
  std::size_t group = 0;
};

}  // namespace vitrine
