// The subcommands of `vitrine`. Each registers its flags and, when it is called, sets the exit
// code.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tensor/error.h"

namespace vitrine {

/// The exit status of the program; also in `vitrine --help`.
enum ExitCode : int {
  exit_success = 0,
  exit_failure = 1,   // something could not be done, a file that a flag names is missing or unfit, or a check failed
  exit_usage = 2,     // a flag's value or a recipe is wrong, which is seen before any file of data or weights is opened
  exit_signal = 128,  // plus the signal's number: 130 after SIGINT, 143 after SIGTERM; what was done is saved
};

/// A mistake in the command line or in a recipe.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Returns read(). An Error of `read` becomes a UsageError; so `read` must use only flags and
/// recipes, not files of data or weights.
template <class Read>
auto from_flags(const Read& read) {
  try {
    return read();
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

void add_train(CLI::App& program, int& exit_code);
void add_eval(CLI::App& program, int& exit_code);
void add_predict(CLI::App& program, int& exit_code);
void add_augment(CLI::App& program, int& exit_code);
void add_summary(CLI::App& program, int& exit_code);
void add_list_models(CLI::App& program, int& exit_code);
void add_convert(CLI::App& program, int& exit_code);
void add_gradcheck(CLI::App& program, int& exit_code);

}  // namespace vitrine
