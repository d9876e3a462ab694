// Levenshtein's distance, one row of its table at a time.
#include "tensor/closest_name.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

namespace vitrine {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // row[j]: from the first i characters of a to the first j of b
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::vector<std::string> by_distance(std::string_view name, std::vector<std::string> names) {
  std::ranges::stable_sort(names, {}, [&](const std::string& other) { return edit_distance(name, other); });
  return names;
}

std::string nearest_hint(std::string_view name, const std::vector<std::string>& names) {
  std::size_t best = (name.size() < 4 ? 1 : std::max<std::size_t>(2, name.size() / 3)) + 1;
  std::string nearest;
  for (const std::string& other : names) {
    if (const std::size_t d = edit_distance(name, other); d < best && !other.empty()) best = d, nearest = other;
  }
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

}  // namespace vitrine
