// One CLI11 option per recipe field; values stay words until the recipe parses them.
#include "cli/recipe_options.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "cli/commands.h"

namespace vitrine {
namespace {

std::string help_of(const RecipeField& field) {
  static const Recipe defaults;
  const auto words = field_words(defaults, field);
  const std::string value = fmt::format("{}", fmt::join(words, " "));
  return value.empty() ? field.help : fmt::format("{} [{}]", field.help, value);
}

std::string flag_of(const RecipeField& field) {
  return field.letter.empty() ? "--" + field.name : fmt::format("-{},--{}", field.letter, field.name);
}

}  // namespace

void RecipeOptions::add_to(CLI::App& app, const std::vector<std::string>& names) {
  for (const RecipeField& field : recipe_fields()) {
    if (!names.empty() && !std::ranges::count(names, field.name)) continue;
    CLI::Option* option = nullptr;
    if (field.is_switch()) {
      const auto set = [this, &field](std::int64_t count) {
        given_.push_back({&field, {count > 0 ? "true" : "false"}});
      };
      option = app.add_flag_function(fmt::format("--{},!--no-{}", field.name, field.name), set, help_of(field));
    } else {
      const auto set = [this, &field](const std::vector<std::string>& words) { given_.push_back({&field, words}); };
      option = app.add_option_function<std::vector<std::string>>(flag_of(field), set, help_of(field));
      option->type_name(field.accepts.text)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      if (!field.takes_many()) option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
    option->group(field.group);
  }
}

void RecipeOptions::add_config_to(CLI::App& app) {
  app.add_option("-c,--config", config_, "recipe (YAML) whose values are the defaults")->type_name("FILE");
}

bool RecipeOptions::has(const std::string& name) const {
  return std::ranges::any_of(given_, [&](const auto& entry) { return entry.first->name == name; });
}

Recipe RecipeOptions::apply(Recipe recipe) const {
  try {
    if (!config_.empty()) recipe = read_recipe(config_, std::move(recipe));
    for (const auto& [field, words] : given_) set_field(recipe, *field, words, "--" + field->name);
    return recipe;
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

}  // namespace vitrine
