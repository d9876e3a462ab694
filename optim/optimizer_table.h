// The optimisers by name: make_optimizer("lion", groups, {.learning_rate = 1e-4}).
#pragma once

#include <functional>
#include <map>
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
  std::vector<std::string> fallback_list = {};     // names of what muon leaves to AdamW
  std::map<std::string, std::string> kwargs = {};  // of this optimiser alone, as its row names them
};

struct OptimizerRow {
  std::string name;  // timm's
  std::string help;  // "Adam with decoupled weight decay"
  std::function<std::unique_ptr<Optimizer>(std::vector<ParameterGroup>, const OptimizerSettings&)> make;
  std::vector<std::string> kwargs = {};  // names of options besides those of all
};

/// The one list of optimisers: flags, help and checks come from it.
const std::vector<OptimizerRow>& optimizer_table();

/// The optimiser of that name; for another word, or an option that it has not, an Error that lists
/// what there is.
std::unique_ptr<Optimizer> make_optimizer(std::string_view name, std::vector<ParameterGroup> groups,
                                          const OptimizerSettings& settings);

}  // namespace vitrine
