// The tape: append a node in the forward pass, walk the nodes from last to first in the backward
// pass.
// The first part is the idea, complete; what follows keeps tapes, leaves and callers in order, and
// the last part saves launches and memory without changing a result.
#include "autograd/tape.h"

#include <atomic>
#include <utility>

#include "autograd/op_hook.h"

namespace vitrine {

// ---- The idea ----

struct Tape::Node {
  const char* op;                    // nullptr for a leaf
  std::vector<std::int64_t> inputs;  // the nodes that made them; -1 for a constant
  Rule rule;                         // from the gradient of the output to those of the inputs
  Shape shape;                       // of the output, and so of its gradient
  DType dtype;
  bool is_watched = false;  // backward returns its gradient
};

struct Tape::Recording {
  std::uint64_t serial;           // which tape a Trace belongs to
  std::vector<Node> nodes;        // in the order of their creation: an input stands before its user
  std::vector<Tensor> gradients;  // by node, during backward; undefined where nothing has arrived

  Node& node(std::int64_t i) { return nodes[static_cast<std::size_t>(i)]; }
  Tensor& gradient(std::int64_t i) { return gradients[static_cast<std::size_t>(i)]; }
};

namespace {

/// What a hook computes is not recorded.
void show(const OpResult& result) {
  if (!OpHook::is_alive()) return;
  const PauseRecording no_tape;
  OpHook::show(result);
}

}  // namespace

/// Forward: the output becomes the newest node.
void Tape::append(const char* op, Tensor& output, std::span<const Tensor> inputs, Rule rule) {
  std::vector<std::int64_t> nodes;
  nodes.reserve(inputs.size());
  for (const Tensor& input : inputs) nodes.push_back(tracks(input) ? input.trace().node : -1);
  output.set_trace({recording_->serial, static_cast<std::int64_t>(recording_->nodes.size())});
  recording_->nodes.push_back({op, std::move(nodes), std::move(rule), output.shape(), output.dtype(), false});
  show({op, -1, output});
}

/// Backward: when node i is reached, every later node has run, so its gradient is complete.
void Tape::walk_back(std::int64_t from, Tensor dy, bool keep_rules) {
  recording_->gradient(from) = std::move(dy);
  for (std::int64_t i = from; i >= first_node_; --i) run_rule(i, keep_rules);
}

/// Takes the gradient of node i, which nothing needs any more, and lets its rule add to those of
/// its inputs.
void Tape::run_rule(std::int64_t i, bool keep_rules) {
  Node& node = recording_->node(i);
  if (!node.op) return;  // a leaf keeps its gradient
  // The rule leaves the node (or is copied) before it runs: it may append nodes, and then the
  // vector moves.
  const Rule rule = keep_rules ? node.rule : std::exchange(node.rule, nullptr);
  Tensor& slot = recording_->gradient(i);
  const Tensor dy = node.is_watched ? slot : std::exchange(slot, Tensor());
  if (!dy.defined()) return;  // the loss does not depend on this node
  const char* op = node.op;
  BackwardContext context(*this, i);
  try {
    rule(dy, context);
  } catch (OutOfMemory& error) {
    error.set_op(fmt::format("backward of {}", op));
    throw;
  }
}

/// A tensor that was used twice gets the sum of two gradients.
void BackwardContext::add(int input, const Tensor& gradient) {
  const std::int64_t target = node_of(input);
  if (target < 0) return;
  check_like_input(input, gradient);
  show({tape_.recording_->node(node_).op, input, gradient});
  Tensor& sum = tape_.recording_->gradient(target);
  if (sum.defined()) {
    accumulate(sum, gradient);
  } else {
    sum = gradient;
  }
}

// ---- What a rule may ask ----

std::int64_t BackwardContext::node_of(int input) const {
  return tape_.recording_->node(node_).inputs[static_cast<std::size_t>(input)];
}

bool BackwardContext::wants(int input) const { return node_of(input) >= 0; }

void BackwardContext::check_like_input(int input, const Tensor& gradient) const {
  const Tape::Node& producer = tape_.recording_->node(node_of(input));
  VT_CHECK(gradient.shape() == producer.shape && gradient.dtype() == producer.dtype,
           "{}: the gradient of input {} is {} {}, expected {} {} like the input", tape_.recording_->node(node_).op,
           input, name_of(gradient.dtype()), to_string(gradient.shape()), name_of(producer.dtype),
           to_string(producer.shape));
}

Tensor BackwardContext::output(const Saved& saved) const {
  Tensor output = *saved;
  output.set_trace({tape_.recording_->serial, node_});
  return output;
}

const Tensor& Saved::operator*() const {
  VT_CHECK(!tensor_.defined() || tensor_.storage()->version() == version_,
           "{}: a tensor {} that backward needs was changed in place after the op (version {}, expected {})", op_,
           to_string(tensor_.shape()), tensor_.storage()->version(), version_);
  return tensor_;
}

// ---- Which tape records ----

namespace {

thread_local Tape* current_tape = nullptr;

std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> serial{0};
  return ++serial;
}

}  // namespace

Tape::Tape()
    : recording_(current_tape ? current_tape->recording_ : new Recording{next_serial(), {}, {}}),
      outer_(current_tape),
      first_node_(static_cast<std::int64_t>(recording_->nodes.size())) {
  current_tape = this;
}

Tape::~Tape() {
  // A vector of nodes, none of which holds another: freeing it needs no recursion, however deep the
  // graph.
  if (current_tape == this) current_tape = outer_;
  if (!outer_) delete recording_;
}

Tape* Tape::current() { return current_tape; }

std::int64_t Tape::size() const { return static_cast<std::int64_t>(recording_->nodes.size()) - first_node_; }

PauseRecording::PauseRecording() : paused_(std::exchange(current_tape, nullptr)) {}
PauseRecording::~PauseRecording() { current_tape = paused_; }

bool is_recording(std::initializer_list<const Tensor*> inputs) {
  if (!current_tape) return false;
  for (const Tensor* input : inputs) {
    if (current_tape->tracks(*input)) return true;
  }
  return false;
}

bool is_recording_twice() { return current_tape && current_tape->is_nested(); }

// ---- Leaves, and the end of an op ----

bool Tape::tracks(const Tensor& tensor) const {
  return tensor.trace().tape == recording_->serial && tensor.trace().node >= 0;
}

Tensor Tape::watch(const Tensor& tensor) {
  Tensor leaf = tensor;
  if (tracks(tensor)) {  // inside an outer tape: a new node, through which the outer gradient passes unchanged
    append("watch", leaf, {&tensor, 1}, [](const Tensor& dy, BackwardContext& context) { context.add(0, dy); });
    recording_->nodes.back().is_watched = true;
    return leaf;
  }
  leaf.set_trace({recording_->serial, static_cast<std::int64_t>(recording_->nodes.size())});
  recording_->nodes.push_back({nullptr, {}, nullptr, tensor.shape(), tensor.dtype(), true});
  return leaf;
}

void Tape::watch(const Parameter& parameter) {
  if (parameter.trace().tape == recording_->serial) return;
  parameter.set_trace(watch(parameter.value()).trace());
}

Parameter::operator Tensor() const {
  VT_CHECK(defined(), "parameter: it has no value, expected one that was initialised or loaded");
  Tensor tensor = value_;
  if (Tape* tape = Tape::current()) {
    tape->watch(*this);
    tensor.set_trace(trace_);
  }
  return tensor;
}

Tensor record(const char* op, Tensor output, std::span<const Tensor> inputs, Rule rule) {
  output.set_trace({});
  if (Tape* tape = current_tape) {
    for (const Tensor& input : inputs) {
      if (!tape->tracks(input)) continue;
      tape->append(op, output, inputs, std::move(rule));
      break;
    }
  }
  return output;
}

Tensor record(const char* op, Tensor output, std::initializer_list<Tensor> inputs, Rule rule) {
  return record(op, std::move(output), std::span<const Tensor>(inputs.begin(), inputs.size()), std::move(rule));
}

// ---- Backward, as callers see it ----

Gradients Tape::backward(const Tensor& loss, BackwardOptions options) {
  VT_CHECK(loss.defined() && loss.numel() == 1,
           "backward: the loss has shape {}, expected one element (or pass the gradient of the output)",
           to_string(loss.shape()));
  return backward(loss, ones(loss.shape(), loss.dtype(), loss.device()), options);
}

Gradients Tape::backward(const Tensor& output, Tensor dy, BackwardOptions options) {
  VT_CHECK(tracks(output),
           "backward: the output was not recorded on this tape, expected one that depends on a parameter or a watched "
           "tensor");
  VT_CHECK(!consumed_,
           "backward: this tape has run backward already, expected a new tape or BackwardOptions{{.retain = true}}");
  VT_CHECK(dy.shape() == output.shape() && dy.dtype() == output.dtype(),
           "backward: dy is {} {}, expected {} {} like the output", name_of(dy.dtype()), to_string(dy.shape()),
           name_of(output.dtype()), to_string(output.shape()));
  // An outer tape needs the rules again, and records what they do. Otherwise nothing is recorded
  // meanwhile.
  const bool keep_rules = options.retain || is_nested();
  consumed_ = !keep_rules;
  if (is_nested()) return run_backward(output.trace().node, std::move(dy), keep_rules);
  const PauseRecording pause;
  dy.set_trace({});
  return run_backward(output.trace().node, std::move(dy), keep_rules);
}

/// Swaps in a vector of gradients for the length of this call, so that a backward inside a rule of
/// another one has gradients of its own.
Gradients Tape::run_backward(std::int64_t from, Tensor dy, bool keep_rules) {
  std::vector<Tensor> gradients(static_cast<std::size_t>(from) + 1);
  std::swap(gradients, recording_->gradients);
  try {
    walk_back(from, std::move(dy), keep_rules);
  } catch (...) {
    std::swap(gradients, recording_->gradients);
    throw;
  }
  std::swap(gradients, recording_->gradients);
  Gradients result;
  result.tape_ = recording_->serial;
  result.by_node_ = std::move(gradients);
  return result;
}

namespace {

/// The gradient in `dtype`: itself, with its trace, unless it came in another dtype through
/// add_in_compute_dtype.
Tensor in_dtype(const Tensor& gradient, DType dtype) {
  return gradient.dtype() == dtype ? gradient : cast_data(gradient, dtype);
}

/// True if no other tensor shares these elements, so that a gradient may be added in place. A
/// gradient is kept as the rule gave it, so it may share memory with another gradient, be an
/// expanded view, or belong to the caller.
bool is_exclusive(const Tensor& gradient) { return gradient.storage().use_count() == 1 && gradient.is_contiguous(); }

}  // namespace

Tensor Gradients::operator[](const Parameter& parameter) const {
  const Tensor gradient = at(parameter.trace());
  return gradient.defined() ? in_dtype(gradient, parameter.value().dtype()) : gradient;
}

Tensor Gradients::operator[](const Tensor& watched) const {
  const Tensor gradient = at(watched.trace());
  return gradient.defined() ? in_dtype(gradient, watched.dtype()) : gradient;
}

Tensor Gradients::at(const Trace& trace) const {
  if (trace.tape != tape_ || trace.node < 0 || trace.node >= static_cast<std::int64_t>(by_node_.size())) return {};
  return by_node_[static_cast<std::size_t>(trace.node)];
}

// ---- Shortcuts: the same sums with fewer passes over memory ----

/// Adds in place if no other tensor shares the sum's elements and no outer tape records.
void BackwardContext::accumulate(Tensor& sum, const Tensor& gradient) {
  sum = in_dtype(sum, gradient.dtype());  // the first gradient may have come in bf16, see below
  if (is_exclusive(sum) && !tape_.is_nested()) return add_into(sum, gradient);
  Tensor total = clone(sum);
  add_into(total, gradient);
  sum = record("accumulate", total, {sum, gradient}, [](const Tensor& dy, BackwardContext& context) {
    context.add(0, dy);
    context.add(1, dy);
  });
}

/// The only gradient of a leaf may stay in bf16: the optimiser converts those of all parameters in
/// one pass.
void BackwardContext::add_in_compute_dtype(int input, const Tensor& gradient) {
  const std::int64_t target = node_of(input);
  if (target < 0) return;
  const Tape::Node& producer = tape_.recording_->node(target);
  Tensor& sum = tape_.recording_->gradient(target);
  const bool can_wait = !producer.op && !sum.defined() && !tape_.is_nested() && gradient.shape() == producer.shape;
  if (!can_wait) return add(input, in_dtype(gradient, producer.dtype));
  show({tape_.recording_->node(node_).op, input, gradient});
  sum = gradient;
}

/// A kernel that adds its own gradient to the sum saves a pass over memory. Not while an OpHook is
/// alive: it sees each gradient before the addition.
Tensor BackwardContext::accumulation_buffer(int input) {
  const std::int64_t target = node_of(input);
  if (target < 0 || tape_.is_nested() || OpHook::is_alive()) return {};
  const Tensor& sum = tape_.recording_->gradient(target);
  if (!sum.defined() || sum.dtype() != tape_.recording_->node(target).dtype || !is_exclusive(sum)) return {};
  sum.storage()->bump_version();
  return sum;
}

// ---- Drawing ----

std::string Tape::to_dot() const {
  std::string text = "digraph tape {\n  rankdir=BT;\n  node [shape=box, fontname=\"monospace\"];\n";
  for (std::size_t i = static_cast<std::size_t>(first_node_); i < recording_->nodes.size(); ++i) {
    const Node& node = recording_->nodes[i];
    text += fmt::format("  n{} [label=\"{}\\n{} {}\"{}];\n", i, node.op ? node.op : "leaf", name_of(node.dtype),
                        to_string(node.shape), node.op ? "" : ", style=rounded");
    for (const std::int64_t input : node.inputs) {
      if (input >= 0) text += fmt::format("  n{} -> n{};\n", input, i);
    }
  }
  return text + "}\n";
}

}  // namespace vitrine
