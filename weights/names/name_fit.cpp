// Trying prefixes and tables.
#include "weights/names/name_fit.h"

#include <algorithm>
#include <map>
#include <unordered_set>

namespace vitrine {
namespace {

constexpr std::size_t most_prefixes = 24;  // tried
constexpr std::ptrdiff_t most_names = 4096;
constexpr int deepest_prefix = 4;  // in words, such as "module._orig_mod.model.backbone."

/// What names begin with, up to a dot or slash: the empty prefix, and those of at least a quarter
/// of the names, the most frequent first.
std::vector<std::string> candidate_prefixes(const std::vector<std::string>& names) {
  std::map<std::string, std::size_t> counts;
  for (const std::string& name : names) {
    std::size_t stop = name.find_first_of("./");
    for (int depth = 0; depth < deepest_prefix && stop != std::string::npos; ++depth) {
      ++counts[name.substr(0, stop + 1)];
      stop = name.find_first_of("./", stop + 1);
    }
  }
  std::vector<std::pair<std::size_t, std::string>> frequent;
  for (const auto& [prefix, count] : counts) {
    if (4 * count >= names.size()) frequent.emplace_back(count, prefix);
  }
  std::ranges::stable_sort(frequent, std::greater{}, [](const auto& entry) { return entry.first; });
  std::vector<std::string> prefixes = {""};
  for (const auto& [count, prefix] : frequent) {
    if (prefixes.size() < most_prefixes) prefixes.push_back(prefix);
  }
  return prefixes;
}

bool names_have_base(const NameTable& table, const std::vector<std::string>& names, const std::string& prefix) {
  return table.base.empty() || std::ranges::any_of(names, [&](const std::string& name) {
           return name.starts_with(prefix) && std::string_view(name).substr(prefix.size()).starts_with(table.base);
         });
}

/// How many different weights of the table the names are. Two names of one weight, with and without
/// the prefix, count once.
std::size_t count_known(const NameFit& fit, const std::vector<std::string>& names) {
  std::unordered_set<std::string> known;
  for (const std::string& name : names) {
    std::string full = fit.full_name(name);
    if (fit.knows(full)) known.insert(std::move(full));
  }
  return known.size();
}

bool is_average(const std::string& prefix) { return prefix.find("ema") != std::string::npos; }

/// What all names begin with and none needs, where no table knows any of them.
std::string usual_prefix(const std::vector<std::string>& names) {
  std::string prefix;
  for (bool found = !names.empty(); found;) {
    found = false;
    for (const std::string wrapper : {"module.", "model.", "_orig_mod."}) {
      const std::string longer = prefix + wrapper;
      if (!std::ranges::all_of(names, [&](const std::string& name) { return name.starts_with(longer); })) continue;
      prefix = longer;
      found = true;
    }
  }
  return prefix;
}

}  // namespace

std::optional<FoundRow> find_row(const NameTable& table, const NamePattern NameRow::*side, std::string_view name) {
  for (const NameRow& row : table.rows) {
    if (auto match = (row.*side).match(name)) return FoundRow{&row, std::move(*match)};
  }
  return std::nullopt;
}

bool any_matches(const std::vector<NamePattern>& patterns, std::string_view name) {
  return std::ranges::any_of(patterns, [&](const NamePattern& pattern) { return pattern.match(name).has_value(); });
}

std::string NameFit::full_name(const std::string& name) const {
  const std::string bare = name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  return has_base || !table ? bare : table->base + bare;
}

bool NameFit::knows(const std::string& full) const {
  return table && (find_row(*table, &NameRow::theirs, full) || any_matches(table->derived, full) ||
                   any_matches(table->unused, full));
}

NameFit fit_names(const std::vector<std::string>& all_names) {
  // No model of ours has as many; a file that does is not to take as much longer.
  const std::vector<std::string> names(all_names.begin(),
                                       all_names.begin() + std::min<std::ptrdiff_t>(std::ssize(all_names), most_names));
  NameFit best;
  std::size_t most = 0, without_prefix = 0;
  for (const std::string& prefix : candidate_prefixes(names)) {
    for (const NameTable& table : name_tables()) {
      NameFit fit{.table = &table, .prefix = prefix, .has_base = names_have_base(table, names, prefix)};
      const std::size_t known = count_known(fit, names);
      // Parts of a model may look like the whole of another: a prefix must explain all names, or
      // far more than none does.
      if (!prefix.empty() && known < names.size() && known <= 4 * without_prefix) continue;
      const bool is_better =
          known > most || (known == most && known > 0 && is_average(prefix) && !is_average(best.prefix));
      if (is_better) most = known, best = fit;
    }
    if (prefix.empty()) without_prefix = most;
    if (most == names.size()) return best;
  }
  if (!best.table) best.prefix = usual_prefix(names);
  return best;
}

}  // namespace vitrine
