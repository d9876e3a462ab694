// One row for each optimiser.
#include "optim/optimizer_table.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <ranges>

#include "optim/adamw.h"
#include "optim/lion.h"
#include "optim/muon.h"
#include "optim/sgd.h"

namespace vitrine {
namespace {

using Groups = std::vector<ParameterGroup>;

template <class T>
void take(const std::optional<T>& given, T& option) {
  if (given) option = *given;
}

std::unique_ptr<Optimizer> make_adamw(Groups groups, const OptimizerSettings& settings) {
  AdamWOptions options{.learning_rate = settings.learning_rate};
  take(settings.beta1, options.beta1);
  take(settings.beta2, options.beta2);
  take(settings.epsilon, options.epsilon);
  return std::make_unique<AdamW>(std::move(groups), options);
}

template <bool nesterov>
std::unique_ptr<Optimizer> make_sgd(Groups groups, const OptimizerSettings& settings) {
  SgdOptions options{.learning_rate = settings.learning_rate, .nesterov = nesterov};
  take(settings.momentum, options.momentum);
  return std::make_unique<Sgd>(std::move(groups), options);
}

std::unique_ptr<Optimizer> make_lion(Groups groups, const OptimizerSettings& settings) {
  LionOptions options{.learning_rate = settings.learning_rate};
  take(settings.beta1, options.beta1);
  take(settings.beta2, options.beta2);
  return std::make_unique<Lion>(std::move(groups), options);
}

/// kwargs[name], if given, as one of the words of a table.
template <class T>
void take_word(const OptimizerSettings& settings, const std::string& name, const std::map<std::string, T>& words,
               T& option) {
  const auto given = settings.kwargs.find(name);
  if (given == settings.kwargs.end()) return;
  const auto found = words.find(given->second);
  VT_CHECK(found != words.end(), "make_optimizer: {} is '{}', expected one of {}", name, given->second,
           fmt::join(std::views::keys(words), ", "));
  option = found->second;
}

/// kwargs[name], if given, as an integer.
void take_integer(const OptimizerSettings& settings, const std::string& name, int& option) {
  const auto given = settings.kwargs.find(name);
  if (given == settings.kwargs.end()) return;
  const char* end = given->second.data() + given->second.size();
  const auto [stop, failure] = std::from_chars(given->second.data(), end, option);
  VT_CHECK(failure == std::errc() && stop == end, "make_optimizer: {} is '{}', expected an integer", name,
           given->second);
}

std::unique_ptr<Optimizer> make_muon(Groups groups, const OptimizerSettings& settings) {
  using AdjustLr = MuonOptions::AdjustLr;
  MuonOptions options{.learning_rate = settings.learning_rate, .fallback_list = settings.fallback_list};
  take(settings.momentum, options.momentum);
  take(settings.beta1, options.beta1);
  take(settings.beta2, options.beta2);
  take(settings.epsilon, options.epsilon);
  take_word(settings, "nesterov", {{"false", false}, {"true", true}}, options.nesterov);
  take_integer(settings, "ns_steps", options.ns_steps);
  take_word(settings, "adjust_lr_fn",
            {{"original", AdjustLr::original}, {"match_rms_adamw", AdjustLr::match_rms_adamw}}, options.adjust_lr_fn);
  return std::make_unique<Muon>(groups, options);
}

}  // namespace

const std::vector<OptimizerRow>& optimizer_table() {
  static const std::vector<OptimizerRow> rows = {
      {"adamw", "Adam with decoupled weight decay", make_adamw},
      {"sgd", "with Nesterov's momentum", make_sgd<true>},
      {"momentum", "sgd with plain momentum", make_sgd<false>},
      {"lion", "sign of a moving average, for a smaller lr and more weight decay than adamw", make_lion},
      {"muon",
       "orthogonalised momentum for the matrices of the blocks, adamw for the rest",
       make_muon,
       {"nesterov", "ns_steps", "adjust_lr_fn"}},
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
  for (const auto& [option, value] : settings.kwargs) {
    VT_CHECK(std::ranges::count(row->kwargs, option), "make_optimizer: {} has no option '{}', expected {}", name,
             option, row->kwargs.empty() ? "none" : fmt::format("{}", fmt::join(row->kwargs, ", ")));
  }
  return row->make(std::move(groups), settings);
}

}  // namespace vitrine
