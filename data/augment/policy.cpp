// Names of policies, and drawing from them.
#include "data/augment/policy.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "data/augment/policy_tables.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

constexpr const char* accepted =
    "rand[-mN][-nN][-pX][-mstdX][-mmaxN][-incN], original[-mstdX], originalr, v0, v0r, 3a (timm), ra[-mN][-nN], "
    "ta_wide, "
    "autoaugment or autoaugment-cifar10 (torchvision)";

/// "rand-m9-mstd0.5" as the word before the first dash and the numbers behind the others' keys.
struct PolicyName {
  std::string_view word;
  std::map<std::string_view, double> numbers;

  /// The number of `key` within its range, or the default.
  double number(std::string_view key, double default_value) const {
    const auto found = numbers.find(key);
    return found == numbers.end() ? default_value : found->second;
  }
};

/// The range that a key's number must lie in, and whether it must be an integer.
struct NumberRange {
  double low, high;
  bool whole = false;
};
using KnownKeys = std::map<std::string_view, NumberRange>;

std::string_view first_word(std::string_view name) { return name.substr(0, name.find('-')); }

/// Adds what one section such as "mstd0.5" says.
void parse_section(std::string_view name, std::string_view section, const KnownKeys& known, PolicyName& result) {
  const std::size_t digits = std::min(section.find_first_of("0123456789."), section.size());
  const std::string_view key = section.substr(0, digits), text = section.substr(digits);
  const auto range = known.find(key);
  VT_CHECK(range != known.end(), "augmentation policy \"{}\": \"{}\" is not understood, expected {}", name, section,
           accepted);
  double value = 0;
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto& [low, high, whole] = range->second;
  VT_CHECK(failure == std::errc() && stop == text.data() + text.size() && value >= low && value <= high &&
               (!whole || value == std::floor(value)),
           "augmentation policy \"{}\": \"{}\" is not accepted, expected {} and {} from {} to {}", name, section, key,
           whole ? "an integer" : "a number", low, high);
  VT_CHECK(result.numbers.emplace(key, value).second, "augmentation policy \"{}\": {} is set twice, expected once",
           name, key);
}

PolicyName split(std::string_view name, const KnownKeys& known) {
  PolicyName result{.word = first_word(name), .numbers = {}};
  std::string_view rest = name.substr(result.word.size());
  while (!rest.empty()) {
    rest.remove_prefix(1);  // the dash
    const std::string_view section = first_word(rest);
    parse_section(name, section, known, result);
    rest.remove_prefix(section.size());
  }
  return result;
}

}  // namespace

AugmentPolicy AugmentPolicy::parse(std::string_view name) {
  const std::string_view word = first_word(name);
  if (name.empty()) return {};
  if (word == "rand") return parse_rand(name);
  if (word == "ra" || word == "ta_wide" || word == "autoaugment") return parse_torchvision(name);
  for (const std::string_view known : {"original", "originalr", "v0", "v0r", "3a"}) {
    if (word == known) return parse_auto(name);
  }
  throw Error(fmt::format("augmentation policy \"{}\": unknown, expected {}", name, accepted));
}

AugmentPolicy AugmentPolicy::parse_rand(std::string_view name) {
  const PolicyName parts = split(name, {{"m", {0, 100}},
                                        {"n", {1, 100, true}},
                                        {"p", {0, 1}},
                                        {"mstd", {0, 1e9}},
                                        {"mmax", {1, 100}},
                                        {"inc", {0, 1, true}}});
  AugmentPolicy policy;
  const bool increasing = parts.number("inc", 0) > 0;
  for (const ImageOp op : timm_operations()) {
    policy.choices_.push_back({policy_entry(increasing ? MagnitudeScale::timm_increasing : MagnitudeScale::timm, op,
                                            parts.number("p", 0.5), parts.number("m", 10))});
  }
  policy.draws_ = static_cast<int>(parts.number("n", 2));
  policy.bound_ = parts.number("mmax", 10);
  policy.deviation_ = parts.number("mstd", 0);
  if (policy.deviation_ > 0) policy.noise_ = policy.deviation_ > 100 ? Noise::uniform : Noise::normal;
  return policy;
}

AugmentPolicy AugmentPolicy::parse_auto(std::string_view name) {
  const PolicyName parts = split(name, {{"mstd", {0, 100}}});
  AugmentPolicy policy;
  if (parts.word == "3a") {
    policy.choices_ = three_augment_choices();
    policy.keeps_color_jitter_ = true;
  } else {
    const bool paper = parts.word.starts_with("original");
    const MagnitudeScale own = paper ? MagnitudeScale::timm_original : MagnitudeScale::timm;
    policy.choices_ = auto_augment_pairs(paper ? AutoAugmentTable::imagenet : AutoAugmentTable::efficientnet,
                                         parts.word.ends_with('r') ? MagnitudeScale::timm_research : own);
  }
  policy.deviation_ = parts.number("mstd", 0);
  if (policy.deviation_ > 0) policy.noise_ = Noise::normal;
  return policy;
}

AugmentPolicy AugmentPolicy::parse_torchvision(std::string_view name) {
  AugmentPolicy policy;
  policy.like_torchvision_ = true;
  if (first_word(name) == "autoaugment") {
    VT_CHECK(name == "autoaugment" || name == "autoaugment-cifar10", "augmentation policy \"{}\": unknown, expected {}",
             name, accepted);
    const bool cifar = name == "autoaugment-cifar10";
    policy.choices_ =
        auto_augment_pairs(cifar ? AutoAugmentTable::cifar10 : AutoAugmentTable::imagenet, MagnitudeScale::torchvision);
    policy.full_magnitude_ = policy.bound_ = 9;  // the last of 10 bins
    return policy;
  }
  const bool wide = first_word(name) == "ta_wide";
  const PolicyName parts = split(name, wide ? KnownKeys{} : KnownKeys{{"m", {0, 30, true}}, {"n", {1, 100, true}}});
  policy.full_magnitude_ = policy.bound_ = 30;  // the last of 31 bins
  for (const ImageOp op : torchvision_operations()) {
    policy.choices_.push_back({policy_entry(wide ? MagnitudeScale::torchvision_wide : MagnitudeScale::torchvision, op,
                                            1, wide ? 30 : parts.number("m", 9))});
  }
  if (wide) policy.noise_ = Noise::bins;
  policy.draws_ = wide ? 1 : static_cast<int>(parts.number("n", 2));
  return policy;
}

double AugmentPolicy::draw_magnitude(double magnitude, RandomSequence& random) const {
  if (noise_ == Noise::bins) return static_cast<double>(random.integer(static_cast<std::int64_t>(magnitude) + 1));
  if (noise_ == Noise::normal) magnitude += deviation_ * random.normal();
  if (noise_ == Noise::uniform) magnitude = random.uniform(0, magnitude);
  return std::clamp(magnitude, 0.0, bound_);
}

std::vector<AugmentStep> AugmentPolicy::draw(const AugmentSurroundings& surroundings, RandomSequence& random) const {
  std::vector<AugmentStep> steps;
  if (empty()) return steps;
  for (int i = 0; i < draws_; ++i) {
    const auto choice = static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(choices_.size())));
    for (const Entry& entry : choices_[choice]) {
      if (!random.chance(entry.probability)) continue;
      const double share = draw_magnitude(entry.magnitude, random) / full_magnitude_;
      AugmentStep step{.op = entry.op};
      if (entry.strength) step.amount = entry.strength(share, surroundings, random);
      if (!like_torchvision_) {
        const bool bilinear = surroundings.random_resampling && random.chance(0.5);
        step.resampling = surroundings.random_resampling ? Resampling::bicubic : surroundings.resampling;
        if (bilinear) step.resampling = Resampling::bilinear;
        step.fill = surroundings.fill;
      }
      steps.push_back(step);
    }
  }
  return steps;
}

}  // namespace vitrine
