// Arenas, gradient collection, clipping and state: everything of an optimiser but the update itself.
#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "ops/ops.h"
#include "optim/squared_norm.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

constexpr std::int64_t alignment = 16;  // elements: every parameter starts on a cache line

std::string last_component(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

std::vector<ParameterGroup> weight_decay_groups(const std::vector<NamedParameter>& parameters, double weight_decay,
                                                const std::vector<std::string>& no_decay) {
  const auto is_listed = [&](const std::string& name) {
    return std::ranges::any_of(no_decay, [&](const auto& n) { return n == name || n == last_component(name); });
  };
  ParameterGroup decayed{.parameters = {}, .weight_decay = weight_decay}, exempt;
  for (const NamedParameter& p : parameters) {
    (p.parameter->shape().size() <= 1 || is_listed(p.name) ? exempt : decayed).parameters.push_back(p);
  }
  std::vector<ParameterGroup> groups;
  for (ParameterGroup& group : {std::ref(decayed), std::ref(exempt)}) {
    if (!group.parameters.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

Optimizer::Optimizer(std::string name, std::vector<ParameterGroup> groups, double learning_rate,
                     std::vector<std::string> moments)
    : name_(std::move(name)), groups_(std::move(groups)), moment_names_(std::move(moments)) {
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
  parameters_ = zeros({size}, first.dtype(), first.device());
  gradients_ = zeros_like(parameters_);
  statistics_ = zeros({3}, DType::f64, first.device());
  for (std::size_t i = 0; i < moment_names_.size(); ++i) moments_.push_back(zeros_like(parameters_));
  for (const Entry& entry : entries_) {
    Tensor place = view(parameters_, entry);
    copy_into(place, entry.parameter->value());
    entry.parameter->value() = place;
  }
}

Tensor Optimizer::view(const Tensor& arena, const Entry& entry) const {
  const Shape& shape = entry.parameter->shape();
  return arena.view_as(shape, contiguous_strides(shape), entry.begin);
}

void Optimizer::set_learning_rate(double learning_rate) {
  VT_CHECK(std::isfinite(learning_rate) && learning_rate >= 0, "{}: learning rate is {}, expected a finite number >= 0",
           name_, learning_rate);
  learning_rate_ = learning_rate;
}

void Optimizer::gather(const Gradients& gradients, double scale) {
  is_gathered_ = false;
  accumulate(gradients, scale);
}

void Optimizer::accumulate(const Gradients& gradients, double scale) {
  if (!is_gathered_) {
    for (Entry& entry : entries_) entry.has_gradient = false;
  }
  is_gathered_ = true;
  is_measured_ = false;
  std::vector<Tensor> copied, copies, added_to, added;  // targets and sources
  for (Entry& entry : entries_) {
    Tensor gradient = gradients.raw_gradient(*entry.parameter);  // the copies below convert it
    if (!gradient.defined()) continue;
    VT_CHECK(gradient.shape() == entry.parameter->shape(), "{}: the gradient of {} has shape {}, expected {}", name_,
             entry.name, to_string(gradient.shape()), to_string(entry.parameter->shape()));
    if (scale != 1) gradient = mul(cast_data(gradient, gradients_.dtype()), scale);
    (entry.has_gradient ? added_to : copied).push_back(view(gradients_, entry));
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
    const std::int64_t end = i + 1 < entries_.size() ? entries_[i + 1].begin : parameters_.numel();
    const bool joins = i > 0 && entries_[i - 1].has_gradient && entries_[i - 1].group == entry.group;
    if (joins) {
      list.back().end = end;
    } else {
      const ParameterGroup& group = groups_[entry.group];
      list.push_back({entry.begin, end, learning_rate_ * group.learning_rate_scale, group.weight_decay});
    }
  }
  return list;
}

void Optimizer::measure(double max_norm, const Tensor& loss) {
  VT_CHECK(max_norm >= 0, "{}: clip to norm {}, expected 0 (only measure) or more", name_, max_norm);
  measure_gradients(gradients_, segments(), max_norm, loss, statistics_);
  is_measured_ = true;
}

double Optimizer::clip(double max_norm) {
  measure(max_norm);
  const auto statistics = statistics_.to_vector<double>();
  if (statistics[updates_left_out] != 0) throw_non_finite();
  return std::sqrt(statistics[gradient_norm_squared]);
}

void Optimizer::throw_non_finite() {
  const auto left_out = static_cast<std::int64_t>(statistics_.to_vector<double>()[updates_left_out]);
  step_count_ -= is_measured_ ? left_out - 1 : left_out;  // one that clip() measured has not been counted
  fill(statistics_, 0);
  is_gathered_ = is_measured_ = false;
  for (const Entry& entry : entries_) {
    if (entry.has_gradient && !std::isfinite(squared_norm(view(gradients_, entry)))) {
      throw NonFiniteGradient(fmt::format("{}: the gradient of {} is not finite in step {}; no parameter was changed",
                                          name_, entry.name, step_count_ + 1),
                              entry.name);
    }
  }
  throw NonFiniteGradient(
      fmt::format("{}: the loss or the norm of the gradient is not finite; no parameter was changed", name_), "");
}

void Optimizer::step() {
  check_gathered();
  if (!is_measured_) clip(0);
  prepare_step();
  update_segments();
}

void Optimizer::prepare_step() {
  ++step_count_;
  prepare(segments());
}

void Optimizer::check_gathered() const {
  VT_CHECK(is_gathered_ && !segments().empty(),
           "{}: no parameter has a gradient; call gather with the result of backward first", name_);
}

void Optimizer::run_step(double max_norm, const Tensor& loss) {
  measure(max_norm, loss);
  update_segments();
}

void Optimizer::update_segments() {
  update(segments());
  parameters_.storage()->bump_version();
  if (bf16_copy_.defined()) refresh_bf16_copy();
  is_gathered_ = is_measured_ = false;
}

void Optimizer::keep_bf16_copy() {
  VT_CHECK(parameters_.dtype() == DType::f32, "{}: parameters are {}, expected f32 to keep them in bf16 as well", name_,
           name_of(parameters_.dtype()));
  bf16_copy_ = zeros(parameters_.shape(), DType::bf16, parameters_.device());
  refresh_bf16_copy();
}

void Optimizer::refresh_bf16_copy() {
  copy_into(bf16_copy_, parameters_);
  for (const Entry& entry : entries_) entry.parameter->set_bf16_copy(view(bf16_copy_, entry));
}

std::int64_t Optimizer::parameter_count() const {
  std::int64_t count = 0;
  for (const Entry& entry : entries_) count += entry.parameter->value().numel();
  return count;
}

OptimizerState Optimizer::state() const {
  OptimizerState state{.tensors = {}, .counters = {{"step", step_count_}}};
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    for (const Entry& entry : entries_) {
      state.tensors.emplace_back(moment_names_[i] + "." + entry.name, view(moments_[i], entry));
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
