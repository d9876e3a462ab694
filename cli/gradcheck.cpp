// vitrine gradcheck [PATTERN]: compares the gradient of every op with finite differences, entry by
// entry.
#include <fmt/core.h>
#include <fnmatch.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "op_table/drivers.h"
#include "train/recipe/setup.h"
#include "weights/files/file.h"

namespace vitrine {
namespace {

struct CheckOptions {
  std::string pattern = "*", json, device = "cpu";
  bool list = false;
};

/// The differentiable ops whose name matches.
std::vector<const OpRow*> matching_rows(const std::string& pattern) {
  std::vector<const OpRow*> rows;
  for (const OpRow& row : op_table()) {
    if (row.differentiable && ::fnmatch(pattern.c_str(), row.op.c_str(), 0) == 0) rows.push_back(&row);
  }
  return rows;
}

int run_gradcheck(const CheckOptions& options) {
  const auto rows = matching_rows(options.pattern);
  if (rows.empty()) {
    throw UsageError(
        fmt::format("'{}' matches no differentiable op; `vitrine gradcheck --list` names them", options.pattern));
  }
  if (options.list) {
    for (const OpRow* row : rows) fmt::print("{}\n", row->op);
    return exit_success;
  }
  const Device device = from_flags([&] { return open_device(options.device); });
  auto json = nlohmann::ordered_json::array();
  int failed_ops = 0, cases = 0;
  double worst = 0;
  fmt::print("{:<22} {:>6} {:>7}  {:>10}  where\n", "op", "cases", "failed", "worst");
  for (const OpRow* row : rows) {
    const OpCheck check = check_op_gradients(*row, device);
    // A row without a single comparison proves nothing.
    const bool failed = check.failed > 0 || check.cases == 0 || !(check.worst_relative_error >= 0);
    failed_ops += failed;
    cases += check.cases;
    worst = std::max(worst, check.worst_relative_error);
    fmt::print("{:<22} {:>6} {:>7}  {:>10.2e}  {}\n", check.op, check.cases, check.failed, check.worst_relative_error,
               check.where);
    std::fflush(stdout);
    // JSON has no infinity.
    json.push_back(
        {{"op", check.op},
         {"cases", check.cases},
         {"failed", check.failed},
         {"worst_relative_error", std::min(check.worst_relative_error, std::numeric_limits<double>::max())}});
  }
  fmt::print("{} ops, {} cases, {} ops failed, worst relative error {:.2e}\n", rows.size(), cases, failed_ops, worst);
  if (!options.json.empty()) write_file_atomically(options.json, json.dump(2) + "\n");
  return failed_ops == 0 ? exit_success : exit_failure;
}

}  // namespace

void add_gradcheck(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand("gradcheck", "check gradients of ops against finite differences");
  const auto options = std::make_shared<CheckOptions>();
  command->add_option("pattern", options->pattern, "names of ops, with * and ?")->type_name("PATTERN");
  command->add_flag("--list", options->list, "print the names of the ops and check nothing");
  command->add_option("--device", options->device, "cpu or cuda")->capture_default_str();
  command->add_option("--json", options->json, "also write the figures to this file")->type_name("FILE");
  command->callback([options, &exit_code] { exit_code = run_gradcheck(*options); });
}

}  // namespace vitrine
