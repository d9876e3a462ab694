// Names of policies, and drawing from them.
#include "data/augment/policy.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "tensor/error.h"

namespace vitrine {
namespace {

/// "rand-m9-mstd0.5" as the word before the first dash and the value of each key behind it.
struct PolicyName {
  std::string_view word;
  std::map<std::string_view, double> values;

  /// The value of `key`, or the default.
  double value(std::string_view key, double default_value) const {
    const auto found = values.find(key);
    return found == values.end() ? default_value : found->second;
  }
};

/// The range that a key's value must lie in, and whether it must be an integer.
struct ValueRange {
  double low, high;
  bool whole = false;
};
using KnownKeys = std::map<std::string_view, ValueRange>;

std::string_view first_word(std::string_view name) { return name.substr(0, name.find('-')); }

/// Adds what one section such as "mstd0.5" says.
void parse_section(std::string_view name, std::string_view section, const KnownKeys& known, PolicyName& result) {
  const std::size_t digits = std::min(section.find_first_of("0123456789."), section.size());
  const std::string_view key = section.substr(0, digits), text = section.substr(digits);
  const auto range = known.find(key);
  VT_CHECK(range != known.end(), "augmentation policy \"{}\": \"{}\" is not understood, expected {}", name, section,
           AugmentPolicy::accepted());
  double value = 0;
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto& [low, high, whole] = range->second;
  VT_CHECK(failure == std::errc() && stop == text.data() + text.size() && value >= low && value <= high &&
               (!whole || value == std::floor(value)),
           "augmentation policy \"{}\": \"{}\" is not accepted, expected {} and {} from {} to {}", name, section, key,
           whole ? "an integer" : "a number", low, high);
  VT_CHECK(result.values.emplace(key, value).second, "augmentation policy \"{}\": {} is set twice, expected once", name,
           key);
}

PolicyName split(std::string_view name, const KnownKeys& known) {
  PolicyName result{.word = first_word(name), .values = {}};
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

struct AugmentPolicy::Family {
  std::string_view word;  // the whole name, or all before its first dash
  const char* keys;       // as messages show them
  const char* library;    // whose name it is
  AugmentPolicy (*parse)(std::string_view name);
};

/// A new policy is a row here. Its operations and their magnitudes are in
/// data/augment/policy_tables.cpp.
const std::vector<AugmentPolicy::Family>& AugmentPolicy::families() {
  static const std::vector<Family> rows = {
      // RandAugment
      {"rand", "[-mN][-nN][-pX][-mstdX][-mmaxN][-incN]", "timm", parse_rand},
      // AutoAugment for ImageNet and that of EfficientNet's code; with r, as in Google's research
      // code
      {"original", "[-mstdX]", "timm", parse_auto},
      {"originalr", "", "timm", parse_auto},
      {"v0", "", "timm", parse_auto},
      {"v0r", "", "timm", parse_auto},
      // 3-Augment
      {"3a", "", "timm", parse_auto},
      // RandAugment, TrivialAugmentWide, AutoAugment for ImageNet and for CIFAR-10
      {"ra", "[-mN][-nN]", "torchvision", parse_torchvision},
      {"ta_wide", "", "torchvision", parse_torchvision},
      {"autoaugment", "", "torchvision", parse_torchvision_auto},
      {"autoaugment-cifar10", "", "torchvision", parse_torchvision_auto},
  };
  return rows;
}

std::string AugmentPolicy::accepted() {
  const std::vector<Family>& rows = families();
  std::string text;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i > 0) text += i + 1 < rows.size() ? ", " : " or ";
    text += fmt::format("{}{}", rows[i].word, rows[i].keys);
    const bool last_of_library = i + 1 == rows.size() || std::string_view(rows[i].library) != rows[i + 1].library;
    if (last_of_library) text += fmt::format(" ({})", rows[i].library);
  }
  return text;
}

AugmentPolicy AugmentPolicy::parse(std::string_view name) {
  if (name.empty()) return {};
  const std::vector<Family>& rows = families();
  auto found = std::ranges::find(rows, name, &Family::word);
  if (found == rows.end()) found = std::ranges::find(rows, first_word(name), &Family::word);
  VT_CHECK(found != rows.end(), "augmentation policy \"{}\": unknown, expected {}", name, accepted());
  return found->parse(name);
}

AugmentPolicy AugmentPolicy::parse_rand(std::string_view name) {
  const PolicyName parts = split(name, {{"m", {0, 100}},
                                        {"n", {1, 100, true}},
                                        {"p", {0, 1}},
                                        {"mstd", {0, 1e9}},
                                        {"mmax", {1, 100}},
                                        {"inc", {0, 1, true}}});
  AugmentPolicy policy;
  const bool increasing = parts.value("inc", 0) > 0;
  for (const ImageOp op : timm_operations()) {
    policy.choices_.push_back({policy_entry(increasing ? MagnitudeScale::timm_increasing : MagnitudeScale::timm, op,
                                            parts.value("p", 0.5), parts.value("m", 10))});
  }
  policy.draws_ = static_cast<int>(parts.value("n", 2));
  policy.bound_ = parts.value("mmax", 10);
  policy.std_ = parts.value("mstd", 0);
  if (policy.std_ > 0) policy.noise_ = policy.std_ > 100 ? Noise::uniform : Noise::normal;
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
  policy.std_ = parts.value("mstd", 0);
  if (policy.std_ > 0) policy.noise_ = Noise::normal;
  return policy;
}

AugmentPolicy AugmentPolicy::parse_torchvision_auto(std::string_view name) {
  const bool cifar = name == "autoaugment-cifar10";
  VT_CHECK(cifar || name == "autoaugment", "augmentation policy \"{}\": unknown, expected {}", name, accepted());
  AugmentPolicy policy;
  policy.like_torchvision_ = true;
  policy.choices_ =
      auto_augment_pairs(cifar ? AutoAugmentTable::cifar10 : AutoAugmentTable::imagenet, MagnitudeScale::torchvision);
  policy.full_m_ = policy.bound_ = 9;  // the last of 10 bins
  return policy;
}

AugmentPolicy AugmentPolicy::parse_torchvision(std::string_view name) {
  AugmentPolicy policy;
  policy.like_torchvision_ = true;
  const bool wide = first_word(name) == "ta_wide";
  const PolicyName parts = split(name, wide ? KnownKeys{} : KnownKeys{{"m", {0, 30, true}}, {"n", {1, 100, true}}});
  policy.full_m_ = policy.bound_ = 30;  // the last of 31 bins
  for (const ImageOp op : torchvision_operations()) {
    policy.choices_.push_back({policy_entry(wide ? MagnitudeScale::torchvision_wide : MagnitudeScale::torchvision, op,
                                            1, wide ? 30 : parts.value("m", 9))});
  }
  if (wide) policy.noise_ = Noise::bins;
  policy.draws_ = wide ? 1 : static_cast<int>(parts.value("n", 2));
  return policy;
}

double AugmentPolicy::draw_level(double m, RandomSequence& random) const {
  if (noise_ == Noise::bins) {
    return static_cast<double>(random.integer(static_cast<std::int64_t>(m) + 1)) / full_m_;
  }
  if (noise_ == Noise::normal) m += std_ * random.normal();
  if (noise_ == Noise::uniform) m = random.uniform(0, m);
  return std::clamp(m, 0.0, bound_) / full_m_;
}

std::vector<AugmentStep> AugmentPolicy::draw(const AugmentContext& context, RandomSequence& random) const {
  std::vector<AugmentStep> steps;
  if (empty()) return steps;
  for (int i = 0; i < draws_; ++i) {
    const auto choice = static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(choices_.size())));
    for (const PolicyEntry& entry : choices_[choice]) {
      if (!random.chance(entry.probability)) continue;
      const double level = draw_level(entry.m, random);
      AugmentStep step{.op = entry.op};
      if (entry.magnitude_at) step.magnitude = entry.magnitude_at(level, context, random);
      if (!like_torchvision_) {
        const bool bilinear = context.random_resampling && random.chance(0.5);
        step.resampling = context.random_resampling ? Resampling::bicubic : context.resampling;
        if (bilinear) step.resampling = Resampling::bilinear;
        step.fill = context.fill;
      }
      steps.push_back(step);
    }
  }
  return steps;
}

}  // namespace vitrine
