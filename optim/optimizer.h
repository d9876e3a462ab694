// What all optimisers share: parameter groups, the flat arenas of parameters and gradients, clipping, state for checkpoints.
//
//   AdamW optimizer(weight_decay_groups(parameters(model), 0.05), {});
//   optimizer.set_learning_rate(schedule.at(step));
//   optimizer.gather(tape.backward(loss));
//   double norm = optimizer.clip(1.0);
//   optimizer.step();
//
// Without a wait for the GPU, and so that a CUDA graph can hold all but prepare_step:
//
//   optimizer.gather(tape.backward(loss));
//   optimizer.prepare_step();
//   optimizer.run_step(1.0, loss);
//
// On construction the parameters become views into one arena, so that an update is one pass over memory. Load weights before
// or after; but whatever gives a Parameter new elements (move_to, cast_to, deep_copy) must come before.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "autograd/parameter.h"
#include "autograd/tape.h"

namespace vitrine {

/// Parameters that are updated alike.
struct ParameterGroup {
  std::vector<NamedParameter> parameters;
  double weight_decay = 0;
  double learning_rate_scale = 1;  // times the optimiser's learning rate
};

/// Two groups: those with weight decay, and those without, which are parameters of at most one dim (biases, norms) and those
/// whose full name or last component is in `no_decay` ("pos_embed", "cls_token"). Empty groups are left out.
std::vector<ParameterGroup> weight_decay_groups(const std::vector<NamedParameter>& parameters, double weight_decay,
                                                const std::vector<std::string>& no_decay = {});

/// Everything a checkpoint needs besides the parameters: moments by parameter name, counters.
struct OptimizerState {
  std::vector<std::pair<std::string, Tensor>> tensors;         // "first_moment.head.weight", ...
  std::vector<std::pair<std::string, std::int64_t>> counters;  // "step"
};

/// A gradient with NaN or infinity. Nothing was changed; the next gather starts afresh.
class NonFiniteGradient : public Error {
 public:
  NonFiniteGradient(const std::string& message, std::string parameter)
      : Error(message), parameter_(std::move(parameter)) {}
  const std::string& parameter() const { return parameter_; }  // the first bad one

 private:
  std::string parameter_;
};

/// A part of the arena that one call of the update covers: neighbours of one group that have a gradient.
struct ArenaSegment {
  std::int64_t begin = 0, end = 0;  // in elements
  double learning_rate = 0;         // with the group's scale
  double weight_decay = 0;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  double learning_rate() const { return learning_rate_; }
  void set_learning_rate(double learning_rate);  // finite, >= 0

  /// Takes these gradients, times `scale`, in place of what was gathered before.
  void gather(const Gradients& gradients, double scale = 1);
  /// Adds to what was gathered since the last step: for batches that are computed in parts.
  void accumulate(const Gradients& gradients, double scale = 1);

  /// Global L2 norm of the gathered gradients, summed in double in a fixed order. Where it exceeds `max_norm`, the next step
  /// uses the gradients times max_norm / (norm + 1e-6), as PyTorch does; max_norm 0 only measures. Throws NonFiniteGradient.
  double clip(double max_norm = 0);

  /// clip and step without waiting for a GPU, in two halves so that the second can be part of a CUDA graph. prepare_step counts the
  /// update and hands the learning rate and the like to the device; run_step then only works on the device. Where the gradient is
  /// not finite, or `loss` (one f64, if given), this update and all later ones are left out, and counted in
  /// statistics()[updates_left_out]; throw_non_finite() ends that.
  void prepare_step();
  void run_step(double max_norm = 0, const Tensor& loss = {});

  /// f64 (3) on the device of the parameters; squared_norm.h names the places.
  const Tensor& statistics() const { return statistics_; }

  /// Throws NonFiniteGradient for the gradients that are gathered now; updates are made again from then on.
  [[noreturn]] void throw_non_finite();

  /// Updates the parameters from the gathered gradients, and forgets these. A parameter that the loss did not depend on, and
  /// so has no gradient, stays as it is.
  void step();
  void step(const Gradients& gradients) {
    gather(gradients);
    step();
  }

  /// From now on keeps the parameters in bf16 as well, rewritten in one pass after each update (autograd/parameter.h). f32 only.
  void keep_bf16_copy();

  std::int64_t step_count() const { return step_count_; }
  std::int64_t parameter_count() const;

  /// Handles of the moments' own elements: save before the next step. `load_state` copies; throws, changing nothing, where a
  /// tensor is missing or has another shape.
  OptimizerState state() const;
  void load_state(const OptimizerState& state);

 protected:
  /// `name` opens error messages. `moments`: names of the arenas of state, such as {"first_moment"}; they start at zero.
  Optimizer(std::string name, std::vector<ParameterGroup> groups, double learning_rate,
            std::vector<std::string> moments);

  /// Writes the functors of the next update, one for each segment, to `functors_`. `step_count()` already counts that step.
  virtual void prepare(const std::vector<ArenaSegment>& segments) = 0;

  /// Updates `parameters_` in `segments` with these functors. All arenas have one dtype, f32 or f64, and one device.
  virtual void update(const std::vector<ArenaSegment>& segments) = 0;

  Tensor parameters_, gradients_;  // (arena size)
  Tensor functors_;                // bytes
  std::vector<Tensor> moments_;    // (arena size) each

 private:
  struct Entry {
    std::string name;
    Parameter* parameter;
    std::size_t group;
    std::int64_t begin;         // in the arenas
    bool has_gradient = false;  // in what was gathered last
  };

  void check_groups() const;
  void build_arenas();
  Tensor view(const Tensor& arena, const Entry& entry) const;
  std::vector<ArenaSegment> segments() const;
  void check_gathered() const;
  void update_segments();
  void refresh_bf16_copy();
  void measure(double max_norm, const Tensor& loss = {});

  std::string name_;
  std::vector<ParameterGroup> groups_;
  std::vector<Entry> entries_;
  std::vector<std::string> moment_names_;
  double learning_rate_ = 0;
  Tensor statistics_;
  Tensor bf16_copy_;          // (arena size) bf16; undefined where it is not kept
  bool is_gathered_ = false;  // there are gradients for the next step
  bool is_measured_ = false;  // and their norm is in the statistics
  std::int64_t step_count_ = 0;
};

}  // namespace vitrine
