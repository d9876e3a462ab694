// Natural order: the name is cut into runs of digits and runs of other characters.
#include "data/datasets/class_order.h"

#include <algorithm>
#include <cctype>
#include <tuple>

#include "tensor/error.h"

namespace vitrine {
namespace {

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

/// A run of digits or of other characters, in lower case; digits without leading zeros.
struct Run {
  bool is_number = false;
  std::string text;

  /// Numbers by value: of two without leading zeros, the longer is greater.
  auto key() const { return std::make_tuple(is_number ? text.size() : std::size_t{0}, std::string_view(text)); }
};

/// As timm's natural_key, re.split(r'(\d+)', name.lower()): a name that begins with digits has an
/// empty run before them, so that runs at the same place are of the same kind.
std::vector<Run> runs_of(const std::string& name) {
  std::vector<Run> runs(1);
  for (const char c : name) {
    if (is_digit(c) != runs.back().is_number) runs.push_back({is_digit(c), ""});
    runs.back().text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  for (Run& run : runs) {
    if (run.is_number) run.text.erase(0, std::min(run.text.find_first_not_of('0'), run.text.size() - 1));
  }
  return runs;
}

bool comes_before(const std::string& a, const std::string& b) {
  return std::ranges::lexicographical_compare(runs_of(a), runs_of(b), {}, &Run::key, &Run::key);
}

}  // namespace

ClassOrder class_order_from_name(std::string_view name) {
  if (name == "sorted") return ClassOrder::sorted;
  if (name == "natural") return ClassOrder::natural;
  throw Error(fmt::format("class order: \"{}\", expected sorted or natural", name));
}

std::vector<std::string> in_order(std::vector<std::string> names, ClassOrder order) {
  std::ranges::sort(names);
  if (order == ClassOrder::natural) std::ranges::stable_sort(names, comes_before);
  return names;
}

bool orders_differ(const std::vector<std::string>& names) {
  return in_order(names, ClassOrder::sorted) != in_order(names, ClassOrder::natural);
}

}  // namespace vitrine
