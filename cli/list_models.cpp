// vitrine list-models [GLOB]: the names of the models.
#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "models/registry.h"

namespace vitrine {

void add_list_models(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand("list-models", "names of the models");
  const auto glob = std::make_shared<std::string>("*");
  command->add_option("glob", *glob, "pattern with * and ?, such as 'vit_tiny*'")->type_name("GLOB");
  command->callback([glob, &exit_code] {
    const std::vector<std::string> names = list_models(*glob);
    for (const std::string& name : names) fmt::print("{}\n", name);
    if (names.empty()) throw UsageError(fmt::format("'{}' matches none of the {} models", *glob, list_models().size()));
    exit_code = exit_success;
  });
}

}  // namespace vitrine
