// The tape: a vector of nodes that ops append to while a Tape object is alive on this thread.
//
//   Tape tape;
//   Tensor loss = cross_entropy(model(images, pass), labels);
//   Gradients grads = tape.backward(loss);
//   grads[model.head.weight];                  // (classes, D)
//
// Creation order is topological order, so backward is one reverse loop: no recursion, no hash map,
// a fixed order of accumulation. Without a Tape alive nothing is recorded, so inference needs no
// switch.
//
// A Tape inside a Tape: the inner one's backward is itself recorded by the outer one, which gives
// second derivatives.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "tensor/tensor.h"

namespace vitrine {

class Tape;

/// A tensor that a rule keeps for backward. Reading it after an in-place change is an error that
/// names the op.
class Saved {
 public:
  Saved(const Tensor& tensor, const char* op)
      : tensor_(tensor), op_(op), version_(tensor.defined() ? tensor.storage()->version() : 0) {}
  /// The tensor, with the trace it had: a rule made of ops is differentiable again.
  const Tensor& operator*() const;
  const Tensor* operator->() const { return &**this; }

 private:
  Tensor tensor_;
  const char* op_;
  std::uint64_t version_;
};

/// What a rule sees of the backward pass: which inputs want a gradient, and where to add it.
class BackwardContext {
 public:
  /// Whether anything depends on the gradient of the op's `input`-th input. If not, do not compute
  /// it.
  bool wants(int input) const;
  /// Adds to the gradient of the `input`-th input. The shape must be that input's shape.
  void add(int input, const Tensor& gradient);
  /// The same for a gradient in the dtype in which the op computed, bf16 under mixed precision. The
  /// only gradient of a leaf stays in that dtype: an optimiser converts those of all parameters in
  /// one pass (Gradients::raw_gradient).
  void add_in_compute_dtype(int input, const Tensor& gradient);
  /// The sum of the gradients that have arrived for that input, row-major, for a kernel that adds
  /// its own in place (then do not call add). Undefined where none has arrived, or where another
  /// handle sees the elements.
  Tensor accumulation_buffer(int input);
  /// The op's own output, which a rule may keep: `saved` with the trace that it received after the
  /// rule was made.
  Tensor output(const Saved& saved) const;

 private:
  friend class Tape;
  BackwardContext(Tape& tape, std::int64_t node) : tape_(tape), node_(node) {}
  std::int64_t node_of(int input) const;
  void check_like_input(int input, const Tensor& gradient) const;
  void accumulate(Tensor& sum, const Tensor& gradient);

  Tape& tape_;
  std::int64_t node_;
};

/// The backward of one op: from the gradient of its output to the gradients of its inputs.
using Rule = std::function<void(const Tensor& dy, BackwardContext& context)>;

/// The gradients of the leaves: parameters and watched tensors.
class Gradients {
 public:
  /// The gradient of a leaf, in its dtype, or an undefined tensor where the loss does not depend on
  /// it.
  Tensor operator[](const Parameter& parameter) const;
  Tensor operator[](const Tensor& watched) const;
  /// The same in the dtype in which it was computed: bf16 where the ops read a bf16 copy of an f32
  /// parameter.
  Tensor raw_gradient(const Parameter& parameter) const { return at(parameter.trace()); }

 private:
  friend class Tape;
  Tensor at(const Trace& trace) const;
  std::uint64_t tape_ = 0;
  std::vector<Tensor> by_node_;  // undefined but for leaves
};

struct BackwardOptions {
  /// Keep the rules, so that backward can run again from the same or another output.
  bool retain = false;
};

class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// The innermost tape that is alive and recording on this thread, or nullptr.
  static Tape* current();

  /// A handle of the same elements that is a leaf of this tape: backward returns its gradient.
  Tensor watch(const Tensor& tensor);
  void watch(const Parameter& parameter);

  /// Gradients of a one-element `loss`. Without `retain` each rule and each inner gradient is freed
  /// as it is consumed, and a second call is an error.
  Gradients backward(const Tensor& loss, BackwardOptions options = {});
  /// The same from any output, given the gradient `dy` of its elements (a vector-Jacobian product).
  /// If dy is a temporary, backward may accumulate gradients in its memory.
  Gradients backward(const Tensor& output, Tensor dy, BackwardOptions options = {});

  /// Number of nodes recorded so far, leaves included.
  std::int64_t size() const;

  /// True while an outer tape records what this one does: rules must then be made of differentiable
  /// ops.
  bool is_nested() const { return outer_ != nullptr; }

  /// The graph in Graphviz's language: one box per op with its output shape. `dot -Tsvg` draws it.
  std::string to_dot() const;

  // ---- For ops (see `record` below) ----
  bool tracks(const Tensor& tensor) const;
  void append(const char* op, Tensor& output, std::span<const Tensor> inputs, Rule rule);

 private:
  friend class BackwardContext;
  struct Node;
  struct Recording;  // the nodes; shared by nested tapes

  Gradients run_backward(std::int64_t from, Tensor dy, bool keep_rules);
  void walk_back(std::int64_t from, Tensor dy, bool keep_rules);
  void run_rule(std::int64_t node, bool keep_rules);

  Recording* recording_;
  Tape* outer_;
  std::int64_t first_node_;
  bool consumed_ = false;
};

/// While alive, nothing is recorded on this thread. Rules of an outermost tape run under one.
class PauseRecording {
 public:
  PauseRecording();
  ~PauseRecording();
  PauseRecording(const PauseRecording&) = delete;
  PauseRecording& operator=(const PauseRecording&) = delete;

 private:
  Tape* paused_;
};

/// True if a tape is recording and tracks one of the inputs: only then does an op need a rule.
bool is_recording(std::initializer_list<const Tensor*> inputs);

/// True if what the current tape records must be differentiable twice. Fused ops then use their
/// composition.
bool is_recording_twice();

/// Ends an op: appends a node for `output` where a tape tracks an input, and returns the output.
///   return record("mul", y, {a, b}, [a = Saved(a, "mul"), b = Saved(b, "mul")](const Tensor& dy, BackwardContext& context) {
///     if (context.wants(0)) context.add(0, mul(dy, *b));
///     if (context.wants(1)) context.add(1, mul(dy, *a));
///   });
Tensor record(const char* op, Tensor output, std::initializer_list<Tensor> inputs, Rule rule);
Tensor record(const char* op, Tensor output, std::span<const Tensor> inputs, Rule rule);

}  // namespace vitrine
