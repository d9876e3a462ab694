// One row for each optimiser.
#include "optim/optimizer_table.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "optim/adamw.h"
#include "optim/lion.h"
#include "optim/sgd.h"

namespace vitrine {
namespace {

using Groups = std::vector<ParameterGroup>;

std::unique_ptr<Optimizer> make_adamw(Groups groups, const OptimizerSettings& settings) {
  AdamWOptions options{.learning_rate = settings.learning_rate};
  options.beta1 = settings.beta1.value_or(options.beta1);
  options.beta2 = settings.beta2.value_or(options.beta2);
  options.epsilon = settings.epsilon.value_or(options.epsilon);
  return std::make_unique<AdamW>(std::move(groups), options);
}

std::unique_ptr<Optimizer> make_lion(Groups groups, const OptimizerSettings& settings) {
  LionOptions options{.learning_rate = settings.learning_rate};
  options.beta1 = settings.beta1.value_or(options.beta1);
  options.beta2 = settings.beta2.value_or(options.beta2);
  return std::make_unique<Lion>(std::move(groups), options);
}

template <bool nesterov>
std::unique_ptr<Optimizer> make_sgd(Groups groups, const OptimizerSettings& settings) {
  SgdOptions options{.learning_rate = settings.learning_rate, .nesterov = nesterov};
  options.momentum = settings.momentum.value_or(options.momentum);
  return std::make_unique<Sgd>(std::move(groups), options);
}

}  // namespace

const std::vector<OptimizerRow>& optimizer_table() {
  static const std::vector<OptimizerRow> rows = {
      {"adamw", "Adam with decoupled weight decay", make_adamw},
      {"sgd", "with Nesterov's momentum", make_sgd<true>},
      {"momentum", "sgd with plain momentum", make_sgd<false>},
      {"lion", "sign of a moving average; wants a 3 to 10 times smaller lr than adamw, and as much more weight decay",
       make_lion},
  };
  return rows;
}

std::unique_ptr<Optimizer> make_optimizer(std::string_view name, std::vector<ParameterGroup> groups,
                                          const OptimizerSettings& settings) {
  const auto& rows = optimizer_table();
  const auto row = std::ranges::find(rows, name, &OptimizerRow::name);
  if (row == rows.end()) {
    std::vector<std::string> names;
    for (const OptimizerRow& known : rows) names.push_back(known.name);
    throw Error(fmt::format("make_optimizer: '{}' is no optimiser, expected one of {}", name, fmt::join(names, ", ")));
  }
  return row->make(std::move(groups), settings);
}

}  // namespace vitrine
