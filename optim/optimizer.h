// What all optimisers share: parameter groups, the flat arenas of parameters and gradients,
// clipping, state for checkpoints.
//
//   AdamW optimizer(weight_decay_groups(parameters(model), 0.05), {});
//   optimizer.set_learning_rate(schedule.at(step));
//   optimizer.set_gradients(tape.backward(loss));
//   double norm = optimizer.clip(1.0);
//   optimizer.step();
//
// Without a wait for the GPU, and so that a CUDA graph can hold all but prepare_step:
//
//   optimizer.set_gradients(tape.backward(loss));
//   optimizer.prepare_step();
//   optimizer.run_step(1.0, loss);
//
// On construction the parameters become views into one arena, so that an update is one pass over
// memory. Load weights before or after; but whatever gives a Parameter new elements (move_to,
// cast_to, deep_copy) must come before.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "autograd/parameter.h"
#include "autograd/tape.h"
#include "optim/arena/arena_segment.h"

namespace vitrine {

/// Parameters that are updated alike.
struct ParameterGroup {
  std::vector<NamedParameter> parameters;
  double weight_decay = 0;
  double learning_rate_scale = 1;  // times the optimiser's learning rate
};

/// How parameters are put into groups.
struct GroupRules {
  double weight_decay = 0;
  std::vector<std::string> no_decay = {};         // full names or last components: "pos_embed"
  std::vector<double> learning_rate_scales = {};  // of each parameter; empty: 1
};

/// Groups that share weight decay and learning rate: first those with weight decay, then those
/// without, which are parameters of at most one dim (biases, norms) and those of `no_decay`; within
/// each, smaller learning rates first. No group is empty.
std::vector<ParameterGroup> parameter_groups(const std::vector<NamedParameter>& parameters, const GroupRules& rules);

/// The same with one learning rate: at most two groups.
std::vector<ParameterGroup> weight_decay_groups(const std::vector<NamedParameter>& parameters, double weight_decay,
                                                const std::vector<std::string>& no_decay = {});

/// Everything a checkpoint needs besides the parameters: moments by parameter name, counters.
struct OptimizerState {
  std::vector<std::pair<std::string, Tensor>> tensors;         // "first_moment.head.weight", ...
  std::vector<std::pair<std::string, std::int64_t>> counters;  // "step"
};

/// A gradient with NaN or infinity. Nothing was changed; the next set_gradients starts afresh.
class NonFiniteGradient : public Error {
 public:
  NonFiniteGradient(const std::string& message, std::string parameter)
      : Error(message), parameter_(std::move(parameter)) {}
  const std::string& parameter() const { return parameter_; }  // the first bad one

 private:
  std::string parameter_;
};

/// An arena of state, such as the first moments: that of the elements from `begin` on in the arena
/// of the parameters.
struct MomentArena {
  Tensor values;
  std::int64_t begin = 0;

  /// The state of the element `position` of the arena of the parameters.
  template <class T>
  T* at(std::int64_t position) {
    return values.data<T>() + (position - begin);
  }
};

/// What an update works on, all of one dtype, f32 or f64, on one device.
struct Arenas {
  Tensor parameters, gradients;      // (arena size)
  std::vector<MomentArena> moments;  // in the order of their MomentSpec
  Tensor statistics;                 // f64 (3), see squared_norm.h
};

/// State of the optimiser for the parameters of some groups; it starts at zero.
struct MomentSpec {
  std::string name;                                   // "first_moment"
  std::size_t first_group = 0, end_group = SIZE_MAX;  // of these groups, the last not included
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // ---- A step ----

  double learning_rate() const { return learning_rate_; }
  void set_learning_rate(double learning_rate);  // finite, >= 0

  /// Takes these gradients, times `scale`, in place of those that were set before.
  void set_gradients(const Gradients& gradients, double scale = 1);
  /// Adds to the gradients since the last step: for batches that are computed in parts.
  void accumulate(const Gradients& gradients, double scale = 1);

  /// Global L2 norm of the gradients, summed in double in a fixed order. Where it exceeds
  /// `max_norm`, the next step uses the gradients times max_norm / (norm + 1e-6), as PyTorch does;
  /// max_norm 0 only measures. Throws NonFiniteGradient.
  double clip(double max_norm = 0);

  /// Updates the parameters from the gradients, and forgets these. A parameter that the loss did
  /// not depend on, and so has no gradient, stays as it is.
  void step();
  void step(const Gradients& gradients) {
    set_gradients(gradients);
    step();
  }

  // ---- State ----

  std::int64_t step_count() const { return step_count_; }
  std::int64_t parameter_count() const;

  /// Handles of the moments' own elements: save before the next step. `load_state` copies; throws,
  /// changing nothing, where a tensor is missing or has another shape.
  OptimizerState state() const;
  void load_state(const OptimizerState& state);

  /// From now on keeps the parameters in bf16 as well, rewritten in one pass after each update
  /// (autograd/parameter.h). f32 only.
  void keep_bf16_copy();

  // ---- A step in two halves, for recorded graphs ----

  /// clip and step without waiting for a GPU, in two halves so that the second can be part of a
  /// CUDA graph. prepare_step counts the update and hands the learning rate and the like to the
  /// device; run_step then only works on the device. Where the gradient is not finite, or `loss`
  /// (one f64, if given), this update and all later ones are skipped, and counted in
  /// statistics()[skipped_steps]; throw_non_finite() ends that.
  void prepare_step();
  void run_step(double max_norm = 0, const Tensor& loss = {});

  /// f64 (3) on the device of the parameters; StepStatistic in squared_norm.h names the elements.
  const Tensor& statistics() const { return arenas_.statistics; }

  /// Throws NonFiniteGradient for the gradients that are set now; updates are made again from then
  /// on.
  [[noreturn]] void throw_non_finite();

 protected:
  /// `name` opens error messages.
  Optimizer(std::string name, std::vector<ParameterGroup> groups, double learning_rate,
            std::vector<MomentSpec> moments);

  /// Brings what the update of `segments` needs (learning rates and the like) to the device.
  /// `step_count()` already counts it.
  virtual void prepare(const std::vector<ArenaSegment>& segments) = 0;

  /// Updates the parameters of `segments`, from what `prepare` left, unless the statistics count
  /// skipped steps. Works on the device alone.
  virtual void update(const std::vector<ArenaSegment>& segments) = 0;

  Arenas arenas_;

 private:
  struct Entry {
    std::string name;
    Parameter* parameter;
    std::size_t group;
    std::int64_t begin;         // in the arenas
    bool has_gradient = false;  // among those set last
  };

  void check_groups() const;
  void build_arenas();
  void build_moments(std::int64_t arena_size);
  Tensor view(const Tensor& arena, const Entry& entry, std::int64_t arena_begin = 0) const;
  std::vector<ArenaSegment> segments() const;
  void check_gradients_are_set() const;
  void update_segments();
  void refresh_bf16_copy();
  void measure(double max_norm, const Tensor& loss = {});

  std::string name_;
  std::vector<ParameterGroup> groups_;
  std::vector<Entry> entries_;
  std::vector<MomentSpec> moment_specs_;
  double learning_rate_ = 0;
  Tensor bf16_copy_;            // (arena size) bf16; undefined where it is not kept
  bool has_gradients_ = false;  // for the next step
  bool is_measured_ = false;    // their norm is in the statistics
  std::int64_t step_count_ = 0;
};

}  // namespace vitrine
