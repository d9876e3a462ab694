// Arenas, gradient collection, clipping and state: everything of an optimiser but the update
// itself.
#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_set>

#include "ops/ops.h"
#include "optim/arena/squared_norm.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

constexpr std::int64_t alignment = 16;  // elements: every parameter starts on a cache line

std::string last_component(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

std::vector<ParameterGroup> parameter_groups(const std::vector<NamedParameter>& parameters, const GroupRules& rules) {
  const auto is_listed = [&](const std::string& name) {
    return std::ranges::any_of(rules.no_decay, [&](const auto& n) { return n == name || n == last_component(name); });
  };
  const auto& scales = rules.learning_rate_scales;
  VT_CHECK(scales.empty() || scales.size() == parameters.size(),
           "parameter_groups: there are {} learning rate scales, expected {}, one for each parameter", scales.size(),
           parameters.size());
  std::map<std::pair<bool, double>, ParameterGroup> groups;  // by exemption from decay, by scale
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, parameter] = parameters[i];
    const bool is_exempt = parameter->shape().size() <= 1 || is_listed(name);
    const double scale = scales.empty() ? 1 : scales[i];
    ParameterGroup& group = groups[{is_exempt, scale}];
    group.weight_decay = is_exempt ? 0 : rules.weight_decay;
    group.learning_rate_scale = scale;
    group.parameters.push_back(parameters[i]);
  }
  std::vector<ParameterGroup> list;
  for (auto& [key, group] : groups) list.push_back(std::move(group));
  return list;
}

std::vector<ParameterGroup> weight_decay_groups(const std::vector<NamedParameter>& parameters, double weight_decay,
                                                const std::vector<std::string>& no_decay) {
  return parameter_groups(parameters, {.weight_decay = weight_decay, .no_decay = no_decay});
}

Optimizer::Optimizer(std::string name, std::vector<ParameterGroup> groups, double learning_rate,
                     std::vector<MomentSpec> moments)
    : name_(std::move(name)), groups_(std::move(groups)), moment_specs_(std::move(moments)) {
  set_learning_rate(learning_rate);
  check_groups();
  build_arenas();
}

void Optimizer::check_groups() const {
  std::unordered_set<std::string> names;
  std::unordered_set<const Parameter*> seen;
  const Parameter* first = nullptr;
  for (const ParameterGroup& group : groups_) {
    VT_CHECK(group.weight_decay >= 0 && group.learning_rate_scale >= 0,
             "{}: a group has weight decay {} and learning rate scale {}, expected 0 or more", name_,
             group.weight_decay, group.learning_rate_scale);
    for (const auto& [name, p] : group.parameters) {
      VT_CHECK(p && p->defined(), "{}: parameter {} has no value", name_, name);
      VT_CHECK(names.insert(name).second && seen.insert(p).second, "{}: parameter {} occurs twice in the groups", name_,
               name);
      if (!first) first = p;
      const Tensor &x = p->value(), &reference = first->value();
      VT_CHECK(x.dtype() == DType::f32 || x.dtype() == DType::f64, "{}: parameter {} is {}, expected f32 or f64", name_,
               name, name_of(x.dtype()));
      VT_CHECK(x.dtype() == reference.dtype() && x.device() == reference.device(),
               "{}: parameter {} is {} on {}, expected {} on {} as the first parameter is", name_, name,
               name_of(x.dtype()), to_string(x.device()), name_of(reference.dtype()), to_string(reference.device()));
    }
  }
  VT_CHECK(first, "{}: there are no parameters to optimise", name_);
}

void Optimizer::build_arenas() {
  std::int64_t size = 0;
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    for (const auto& [name, parameter] : groups_[group].parameters) {
      entries_.push_back({.name = name, .parameter = parameter, .group = group, .begin = size});
      size += chunk_count(parameter->value().numel(), alignment) * alignment;
    }
  }
  const Tensor& first = entries_.front().parameter->value();
  arenas_.parameters = zeros({size}, first.dtype(), first.device());
  arenas_.gradients = zeros_like(arenas_.parameters);
  arenas_.statistics = zeros({3}, DType::f64, first.device());
  build_moments(size);
  for (const Entry& entry : entries_) {
    Tensor elements = view(arenas_.parameters, entry);
    copy_into(elements, entry.parameter->value());
    entry.parameter->value() = elements;
  }
}

/// Groups lie one after the other in the arenas, so those that share a moment are a range of it.
void Optimizer::build_moments(std::int64_t arena_size) {
  const auto begin_of = [&](std::size_t group) {
    const auto first = std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.group >= group; });
    return first == entries_.end() ? arena_size : first->begin;
  };
  for (const MomentSpec& spec : moment_specs_) {
    const std::int64_t begin = begin_of(spec.first_group);
    const Tensor& like = arenas_.parameters;
    arenas_.moments.push_back({zeros({begin_of(spec.end_group) - begin}, like.dtype(), like.device()), begin});
  }
}

Tensor Optimizer::view(const Tensor& arena, const Entry& entry, std::int64_t arena_begin) const {
  const Shape& shape = entry.parameter->shape();
  return arena.view_as(shape, contiguous_strides(shape), entry.begin - arena_begin);
}

void Optimizer::set_learning_rate(double learning_rate) {
  VT_CHECK(std::isfinite(learning_rate) && learning_rate >= 0, "{}: learning rate is {}, expected a finite number >= 0",
           name_, learning_rate);
  learning_rate_ = learning_rate;
}

void Optimizer::set_gradients(const Gradients& gradients, double scale) {
  has_gradients_ = false;
  accumulate(gradients, scale);
}

void Optimizer::accumulate(const Gradients& gradients, double scale) {
  if (!has_gradients_) {
    for (Entry& entry : entries_) entry.has_gradient = false;
  }
  has_gradients_ = true;
  is_measured_ = false;
  std::vector<Tensor> copied, copies, added_to, added;  // targets and sources
  for (Entry& entry : entries_) {
    Tensor gradient = gradients.raw_gradient(*entry.parameter);  // the copies below convert it
    if (!gradient.defined()) continue;
    VT_CHECK(gradient.shape() == entry.parameter->shape(), "{}: the gradient of {} has shape {}, expected {}", name_,
             entry.name, to_string(gradient.shape()), to_string(entry.parameter->shape()));
    if (scale != 1) gradient = mul(cast_data(gradient, arenas_.gradients.dtype()), scale);
    (entry.has_gradient ? added_to : copied).push_back(view(arenas_.gradients, entry));
    (entry.has_gradient ? added : copies).push_back(gradient);
    entry.has_gradient = true;
  }
  copy_all_into(copied, copies);
  add_all_into(added_to, added);
}

std::vector<ArenaSegment> Optimizer::segments() const {
  std::vector<ArenaSegment> list;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (!entry.has_gradient) continue;
    const std::int64_t end = i + 1 < entries_.size() ? entries_[i + 1].begin : arenas_.parameters.numel();
    const bool joins = i > 0 && entries_[i - 1].has_gradient && entries_[i - 1].group == entry.group;
    if (joins) {
      list.back().end = end;
    } else {
      const ParameterGroup& group = groups_[entry.group];
      list.push_back({.begin = entry.begin,
                      .end = end,
                      .learning_rate = learning_rate_ * group.learning_rate_scale,
                      .weight_decay = group.weight_decay,
                      .group = entry.group});
    }
  }
  return list;
}

void Optimizer::measure(double max_norm, const Tensor& loss) {
  VT_CHECK(max_norm >= 0, "{}: clip to norm {}, expected 0 (only measure) or more", name_, max_norm);
  measure_gradients(arenas_.gradients, segments(), max_norm, loss, arenas_.statistics);
  is_measured_ = true;
}

double Optimizer::clip(double max_norm) {
  measure(max_norm);
  const auto statistics = arenas_.statistics.to_vector<double>();
  if (statistics[skipped_steps] != 0) throw_non_finite();
  return std::sqrt(statistics[gradient_norm_squared]);
}

void Optimizer::throw_non_finite() {
  const auto skipped = static_cast<std::int64_t>(arenas_.statistics.to_vector<double>()[skipped_steps]);
  step_count_ -= is_measured_ ? skipped - 1 : skipped;  // one that clip() measured has not been counted
  fill(arenas_.statistics, 0);
  has_gradients_ = is_measured_ = false;
  for (const Entry& entry : entries_) {
    if (entry.has_gradient && !std::isfinite(squared_norm(view(arenas_.gradients, entry)))) {
      throw NonFiniteGradient(fmt::format("{}: the gradient of {} is not finite in step {}; no parameter was changed",
                                          name_, entry.name, step_count_ + 1),
                              entry.name);
    }
  }
  throw NonFiniteGradient(
      fmt::format("{}: the loss or the norm of the gradient is not finite; no parameter was changed", name_), "");
}

void Optimizer::step() {
  check_gradients_are_set();
  if (!is_measured_) clip(0);
  prepare_step();
  update_segments();
}

void Optimizer::prepare_step() {
  ++step_count_;
  prepare(segments());
}

void Optimizer::check_gradients_are_set() const {
  VT_CHECK(has_gradients_ && !segments().empty(),
           "{}: no parameter has a gradient; call set_gradients with the result of backward first", name_);
}

void Optimizer::run_step(double max_norm, const Tensor& loss) {
  measure(max_norm, loss);
  update_segments();
}

void Optimizer::update_segments() {
  update(segments());
  arenas_.parameters.storage()->bump_version();
  if (bf16_copy_.defined()) refresh_bf16_copy();
  has_gradients_ = is_measured_ = false;
}

void Optimizer::keep_bf16_copy() {
  VT_CHECK(arenas_.parameters.dtype() == DType::f32, "{}: parameters are {}, expected f32 to keep them in bf16 as well",
           name_, name_of(arenas_.parameters.dtype()));
  bf16_copy_ = zeros(arenas_.parameters.shape(), DType::bf16, arenas_.parameters.device());
  refresh_bf16_copy();
}

void Optimizer::refresh_bf16_copy() {
  copy_into(bf16_copy_, arenas_.parameters);
  for (const Entry& entry : entries_) entry.parameter->set_bf16_copy(view(bf16_copy_, entry));
}

std::int64_t Optimizer::parameter_count() const {
  std::int64_t count = 0;
  for (const Entry& entry : entries_) count += entry.parameter->value().numel();
  return count;
}

OptimizerState Optimizer::state() const {
  OptimizerState state{.tensors = {}, .counters = {{"step", step_count_}}};
  const auto& moments = arenas_.moments;
  for (std::size_t i = 0; i < moments.size(); ++i) {
    const MomentSpec& spec = moment_specs_[i];
    for (const Entry& entry : entries_) {
      if (entry.group < spec.first_group || entry.group >= spec.end_group) continue;
      state.tensors.emplace_back(spec.name + "." + entry.name, view(moments[i].values, entry, moments[i].begin));
    }
  }
  return state;
}

void Optimizer::load_state(const OptimizerState& state) {
  const auto find = [&](const auto& list, const std::string& name) -> const auto& {
    const auto found = std::ranges::find(list, name, [](const auto& item) -> const std::string& { return item.first; });
    VT_CHECK(found != list.end(), "{}: the saved state has no {}", name_, name);
    return found->second;
  };
  const std::int64_t step = find(state.counters, "step");
  std::vector<std::pair<Tensor, Tensor>> copies;  // all are found before the first is copied
  for (const auto& [name, place] : this->state().tensors) {
    const Tensor& saved = find(state.tensors, name);
    VT_CHECK(saved.shape() == place.shape(), "{}: the saved {} has shape {}, expected {}", name_, name,
             to_string(saved.shape()), to_string(place.shape()));
    copies.emplace_back(place, saved);
  }
  for (auto& [place, saved] : copies) copy_into(place, saved);
  step_count_ = step;
}

}  // namespace vitrine
