// The optimisers by name: make_optimizer("lion", groups, {.learning_rate = 1e-4}).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "optim/optimizer.h"

namespace vitrine {

/// What is said of an optimiser where it is chosen by name. Each takes what it has a use for; what
/// is not given is its own default.
struct OptimizerSettings {
  double learning_rate = 1e-3;
  std::optional<double> beta1 = {}, beta2 = {};
  std::optional<double> epsilon = {};
  std::optional<double> momentum = {};
};

struct OptimizerRow {
  std::string name;  // timm's
  std::string help;  // of one line: "AdamW"
  std::function<std::unique_ptr<Optimizer>(std::vector<ParameterGroup>, const OptimizerSettings&)> make;
};

/// The one list of optimisers: flags, help and checks come from it.
const std::vector<OptimizerRow>& optimizer_table();

/// The optimiser of that name; for any other word an Error that lists the names.
std::unique_ptr<Optimizer> make_optimizer(std::string_view name, std::vector<ParameterGroup> groups,
                                          const OptimizerSettings& settings);

}  // namespace vitrine
