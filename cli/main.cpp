// The program `vitrine`: parses the command line, runs a subcommand, turns every error into one
// line on stderr.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "cli/commands.h"
#include "models/registry.h"
#include "train/recipe/recipe.h"

namespace vitrine {
namespace {

constexpr const char* version = "vitrine " VITRINE_VERSION;

/// "vitrine train: ..." for the subcommand that was called, "vitrine: ..." where there was none.
int report(const CLI::App& program, std::string message, int exit_code) {
  const auto called = program.get_subcommands();
  std::ranges::replace(message, '\n', ' ');
  fmt::print(stderr, "vitrine{}: {}\n", called.empty() ? "" : " " + called[0]->get_name(), message);
  return exit_code;
}

/// The words of the command line that CLI11 did not recognise: a misspelt flag or a word too many.
void refuse_extras(const CLI::App& app) {
  const auto extras = app.remaining();
  if (extras.empty()) return;
  const std::string& extra = extras[0];
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  if (!extra.starts_with("-")) {
    for (const CLI::App* command : app.get_subcommands({})) known.push_back(command->get_name());
  }
  const char* what = extra.starts_with("-") ? "is not a flag of it" : "is one word too many";
  if (!app.get_subcommands({}).empty()) what = "is not a command";
  throw UsageError(fmt::format("{}: {}{}", extra, what, nearest_hint(extra, known)));
}

int run(int argc, char** argv) {
  CLI::App program("Trains vision transformers, evaluates them, and checks every gradient.", "vitrine");
  program.set_version_flag("--version", version);
  program.footer(
      "Exit codes: 0 success; 1 failure; 2 wrong flags or recipe; 130 and 143 stopped by SIGINT and SIGTERM, after "
      "saving.");
  program.allow_extras();
  int exit_code = exit_success;
  for (const auto add :
       {add_train, add_eval, add_predict, add_augment, add_convert, add_summary, add_list_models, add_gradcheck}) {
    add(program, exit_code);
  }
  for (CLI::App* command : program.get_subcommands({})) {
    command->allow_extras();
    command->parse_complete_callback([command] { refuse_extras(*command); });
  }
  try {
    program.parse(argc, argv);
    refuse_extras(program);
    if (program.get_subcommands().empty()) throw UsageError("expected a command; `vitrine --help` lists them");
    return exit_code;
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string message = error.what();
    return report(program, message.substr(0, message.find(':')) + ": its value is missing", exit_usage);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return program.exit(error);  // --help
    return report(program, error.what(), exit_usage);
  } catch (const UsageError& error) {
    return report(program, error.what(), exit_usage);
  } catch (const UnknownModel& error) {
    return report(program, error.what(), exit_usage);
  } catch (const std::bad_alloc&) {
    return report(program, "out of memory", exit_failure);
  } catch (const std::exception& error) {
    return report(program, error.what(), exit_failure);
  }
}

}  // namespace
}  // namespace vitrine

int main(int argc, char** argv) { return vitrine::run(argc, argv); }
