// Flags made from the table of recipe fields.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "train/recipe/recipe.h"

namespace vitrine {

/// What was given on the command line, in its order.
class RecipeOptions {
 public:
  /// Adds a flag for each field, or for each of the named ones.
  void add_to(CLI::App& app, const std::vector<std::string>& names = {});

  /// Adds -c/--config.
  void add_config_to(CLI::App& app);

  /// Was this field's flag given?
  bool has(const std::string& name) const;

  /// The file given with -c over `base`, then the flags. UsageError for a wrong value.
  Recipe apply(Recipe base = {}) const;

 private:
  std::string config_;
  std::vector<std::pair<const RecipeField*, std::vector<std::string>>> given_;
};

}  // namespace vitrine
