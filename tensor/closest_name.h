// Closest names: what a misspelt word may have meant.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

/// Number of insertions, deletions and replacements of a character between two words (Levenshtein
/// 1966).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The names by their distance from `name`, nearest first; equally near ones in the order in which
/// they came.
std::vector<std::string> by_distance(std::string_view name, std::vector<std::string> names);

/// "; did you mean 'lr'?" where one of `names` is close to `name`, else nothing.
std::string nearest_hint(std::string_view name, const std::vector<std::string>& names);

}  // namespace vitrine
