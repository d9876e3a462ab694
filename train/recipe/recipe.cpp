// Recipes from and to text: words of a flag, nodes of a YAML file, lines of args.yaml.
#include "train/recipe/recipe.h"

#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "data/augment/policy.h"
#include "weights/files/file.h"

namespace vitrine {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& value, const RecipeField& field) {
  throw Error(fmt::format("{}: '{}' is not accepted, expected {}{}", where, value, field.accepts.text,
                          nearest_hint(value, field.accepts.words)));
}

/// The whole of `word` as a number within the field's range.
template <class T>
T parse_number(const std::string& word, const RecipeField& field, const std::string& where) {
  T value{};
  const char* end = word.data() + word.size();
  const auto [stop, failure] = std::from_chars(word.data(), end, value);
  const bool fits = failure == std::errc() && stop == end && std::isfinite(static_cast<double>(value)) &&
                    (!field.accepts.number || field.accepts.number(static_cast<double>(value)));
  if (!fits) refuse(where, word, field);
  return value;
}

/// Assigns the words to a member of any of the types that fields have.
struct Assign {
  Recipe& recipe;
  const RecipeField& field;
  const std::vector<std::string>& words;
  const std::string& where;

  const std::string& only() const {
    if (words.size() != 1) refuse(where, fmt::format("{}", fmt::join(words, " ")), field);
    return words[0];
  }

  template <class T>
  void operator()(T Recipe::*member) const {
    recipe.*member = parse_number<T>(only(), field, where);
  }
  void operator()(bool Recipe::*member) const {
    if (!words.empty() && only() != "true" && only() != "false") refuse(where, only(), field);
    recipe.*member = words.empty() || only() == "true";
  }
  void operator()(std::string Recipe::*member) const {
    const std::string value = words.empty() ? "" : only();
    const auto& known = field.accepts.words;
    if (!known.empty() && !std::ranges::count(known, value)) refuse(where, value, field);
    recipe.*member = value;
  }
  void operator()(std::optional<double> Recipe::*member) const {
    recipe.*member = words.empty() ? std::nullopt : std::optional(parse_number<double>(only(), field, where));
  }
  void operator()(std::vector<double> Recipe::*member) const {
    std::vector<double> values;
    for (const std::string& word : words) values.push_back(parse_number<double>(word, field, where));
    if (!std::ranges::count(field.accepts.counts, values.size())) {
      refuse(where, fmt::format("{}", fmt::join(words, " ")), field);
    }
    recipe.*member = values;
  }
  void operator()(std::map<std::string, std::string> Recipe::*member) const {
    auto values = recipe.*member;  // what is not named stays: a flag changes one size of a recipe's model
    for (const std::string& word : words) {
      const std::size_t equals = word.find('=');
      if (equals == 0 || equals == std::string::npos || equals + 1 == word.size()) refuse(where, word, field);
      values[word.substr(0, equals)] = word.substr(equals + 1);
    }
    recipe.*member = values;
  }
};

const RecipeField* find_field(std::string_view name) {
  const auto& fields = recipe_fields();
  const auto found = std::ranges::find_if(fields, [&](const RecipeField& field) { return field.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

const RecipeField& known_field(std::string_view name, const std::string& where) {
  const RecipeField* field = find_field(name);
  if (!field) {
    std::vector<std::string> names;
    for (const RecipeField& known : recipe_fields()) names.push_back(known.name);
    throw Error(fmt::format("{}: '{}' is not a setting of a recipe{}", where, name, nearest_hint(name, names)));
  }
  return *field;
}

/// A YAML value as the words that a flag would have.
std::vector<std::string> words_of(const YAML::Node& value, const std::string& where) {
  const auto scalar = [&](const YAML::Node& node) {
    VT_CHECK(node.IsScalar(), "{}: expected a value, a list of values or name: value pairs", where);
    return node.Scalar();
  };
  std::vector<std::string> words;
  if (value.IsScalar()) words.push_back(value.Scalar());
  if (value.IsSequence()) {
    for (const YAML::Node& item : value) words.push_back(scalar(item));
  }
  if (value.IsMap()) {
    for (const auto& pair : value) words.push_back(scalar(pair.first) + "=" + scalar(pair.second));
  }
  return words;  // none for null
}

YAML::Node parse_yaml(const std::string& text, const std::string& name) {
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    throw Error(fmt::format("{}:{}: not valid YAML: {}", name, error.mark.line + 1, error.msg));
  }
}

}  // namespace

bool RecipeField::takes_many() const {
  return std::holds_alternative<std::vector<double> Recipe::*>(member) ||
         std::holds_alternative<std::map<std::string, std::string> Recipe::*>(member);
}

void set_field(Recipe& recipe, const RecipeField& field, const std::vector<std::string>& words,
               const std::string& where) {
  std::visit(Assign{recipe, field, words, where}, field.member);
}

void set_field(Recipe& recipe, std::string_view name, const std::vector<std::string>& words, const std::string& where) {
  set_field(recipe, known_field(name, where), words, where);
}

Recipe read_recipe(const std::filesystem::path& path, Recipe base) {
  return parse_recipe(read_text(path, 1 << 20), path.string(), std::move(base));
}

Recipe parse_recipe(const std::string& text, const std::string& name, Recipe base) {
  const YAML::Node file = parse_yaml(text, name);
  if (file.IsNull()) return base;
  VT_CHECK(file.IsMap(), "{}:1: expected lines of the form `name: value`", name);
  std::set<std::string> seen;
  for (const auto& pair : file) {
    const std::string line = fmt::format("{}:{}", name, pair.first.Mark().line + 1);
    VT_CHECK(pair.first.IsScalar(), "{}: expected a line of the form `name: value`", line);
    std::string key = pair.first.Scalar();
    std::ranges::replace(key, '_', '-');
    const RecipeField& field = known_field(key, line);
    VT_CHECK(seen.insert(key).second, "{}: {}: is set twice in this file", line, key);
    const std::string where = fmt::format("{}: {}", line, key);
    VT_CHECK(!pair.second.IsNull() || !field.is_switch(), "{}: is empty, expected {}", where, field.accepts.text);
    set_field(base, field, words_of(pair.second, where), where);
  }
  base.file_total_batch = base.total_batch();
  base.file_learning_rate = peak_learning_rate(base).value;
  return base;
}

std::vector<std::string> field_words(const Recipe& recipe, const RecipeField& field) {
  return std::visit(
      [&](auto member) -> std::vector<std::string> {
        const auto& value = recipe.*member;
        using T = std::remove_cvref_t<decltype(value)>;
        std::vector<std::string> words;
        if constexpr (std::is_same_v<T, std::vector<double>>) {
          for (const double x : value) words.push_back(fmt::format("{}", x));
        } else if constexpr (std::is_same_v<T, std::map<std::string, std::string>>) {
          for (const auto& [name, text] : value) words.push_back(name + "=" + text);
        } else if constexpr (std::is_same_v<T, std::optional<double>>) {
          if (value) words.push_back(fmt::format("{}", *value));
        } else {
          words.push_back(fmt::format("{}", value));
        }
        return words;
      },
      field.member);
}

std::string to_yaml(const Recipe& recipe) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const RecipeField& field : recipe_fields()) {
    const std::vector<std::string> words = field_words(recipe, field);
    out << YAML::Key << field.name << YAML::Value;
    if (const auto* map = std::get_if<std::map<std::string, std::string> Recipe::*>(&field.member)) {
      out << YAML::Flow << recipe.*(*map);
    } else if (field.takes_many()) {
      out << YAML::Flow << words;
    } else if (words.empty()) {
      out << YAML::Null;
    } else {
      out << words[0];
    }
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

void check_augmentation(const Recipe& recipe) {
  try {
    AugmentPolicy::parse(recipe.aa);
  } catch (const Error& error) {
    throw Error(fmt::format("--aa: {}", error.what()));
  }
  VT_CHECK(recipe.aug_repeats <= 100, "--aug-repeats: is {}, expected 0 to 100", recipe.aug_repeats);
  VT_CHECK(recipe.scale[0] <= recipe.scale[1], "--scale: is {} {}, expected the smaller number first", recipe.scale[0],
           recipe.scale[1]);
  VT_CHECK(recipe.ratio[0] <= recipe.ratio[1], "--ratio: is {} {}, expected the smaller number first", recipe.ratio[0],
           recipe.ratio[1]);
}

void check_recipe(const Recipe& recipe) {
  VT_CHECK(recipe.dataset == "shapes" || !recipe.data_dir.empty(),
           "--data-dir: is not given, expected a folder with images (or --dataset shapes)");
  VT_CHECK(recipe.warmup_steps > 0 || warmup_epochs_of(recipe) <= recipe.epochs,
           "--warmup-epochs: is {}, expected at most --epochs, {}", warmup_epochs_of(recipe), recipe.epochs);
  VT_CHECK(recipe.warmup_steps == 0 || recipe.sched_on_updates,
           "--warmup-steps: is {}, expected 0 (--warmup-epochs) where the rate is new for each epoch "
           "(--no-sched-on-updates)",
           recipe.warmup_steps);
  const bool mixes = recipe.mixup > 0 || recipe.cutmix > 0;
  VT_CHECK(!mixes || recipe.batch_size % 2 == 0, "--batch-size: is {}, expected an even number with mixup or cutmix",
           recipe.batch_size);
  check_augmentation(recipe);
  VT_CHECK(recipe.experiment.find('/') == std::string::npos && recipe.experiment != "." && recipe.experiment != "..",
           "--experiment: is '{}', expected the name of a folder, without '/'", recipe.experiment);
  VT_CHECK(recipe.kd_distill_type != "token" || !recipe.kd_model_name.empty(),
           "--kd-model-name: is not given, expected the folder of a teacher, as --kd-distill-type is token");
  VT_CHECK(recipe.initial_checkpoint.empty() || recipe.pretrained_path.empty(),
           "--initial-checkpoint, --pretrained-path: both are given, expected at most one");
}

std::int64_t warmup_epochs_of(const Recipe& recipe) {
  if (recipe.warmup_epochs) return static_cast<std::int64_t>(*recipe.warmup_epochs);
  return std::min<std::int64_t>(5, recipe.epochs / 2);
}

PeakRate peak_learning_rate(const Recipe& recipe) {
  if (recipe.lr) return {*recipe.lr, fmt::format("{} = lr", *recipe.lr)};
  double factor = static_cast<double>(recipe.total_batch()) / static_cast<double>(recipe.lr_base_size);
  const bool root = recipe.lr_base_scale == "sqrt";
  if (root) factor = std::sqrt(factor);
  const double value = recipe.lr_base * factor;
  return {value, fmt::format("{:.6g} = lr-base {} x {}total batch {} / lr-base-size {}{}", value, recipe.lr_base,
                             root ? "sqrt(" : "", recipe.total_batch(), recipe.lr_base_size, root ? ")" : "")};
}

std::vector<std::string> departures_from_file(const Recipe& recipe, double learning_rate) {
  std::vector<std::string> sentences;
  if (recipe.file_total_batch == 0) return sentences;
  if (recipe.total_batch() != recipe.file_total_batch) {
    sentences.push_back(fmt::format("the total batch is {}, the recipe was made for {}", recipe.total_batch(),
                                    recipe.file_total_batch));
  }
  if (std::abs(learning_rate - recipe.file_learning_rate) > 1e-9 * learning_rate) {
    sentences.push_back(fmt::format("the learning rate is {:.6g}, the recipe's, with its total batch of {}, {:.6g}",
                                    learning_rate, recipe.file_total_batch, recipe.file_learning_rate));
  }
  return sentences;
}

}  // namespace vitrine
