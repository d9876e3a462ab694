// The order of an epoch with repeats.
#include "data/loader/repeat.h"

namespace vitrine {

std::int64_t samples_per_epoch(std::int64_t size, int repeats) {
  const std::int64_t multiple = 256;
  return repeats > 1 && size >= multiple ? size / multiple * multiple : size;
}

std::vector<std::int64_t> repeated_order(const std::vector<std::int64_t>& order, int repeats) {
  const std::int64_t count = samples_per_epoch(static_cast<std::int64_t>(order.size()), repeats);
  std::vector<std::int64_t> repeated(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < repeated.size(); ++i) repeated[i] = order[i / static_cast<std::size_t>(repeats)];
  return repeated;
}

}  // namespace vitrine
