// The tape's bookkeeping: append a node in the forward pass, walk the nodes from last to first in the backward pass.
#include "autograd/tape.h"

#include <atomic>
#include <utility>

#include "autograd/op_hook.h"

namespace vitrine {
namespace {

thread_local Tape* current_tape = nullptr;

std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> serial{0};
  return ++serial;
}

/// True if nobody else can see these elements, so that a gradient may be added to in place. A contribution is kept as it
/// came, so it may be shared with another gradient, be an expanded view, or belong to the caller.
bool is_exclusive(const Tensor& gradient) { return gradient.storage().use_count() == 1 && gradient.is_contiguous(); }

/// The gradient itself, with its trace, but for one that came through add_converted.
Tensor in_dtype(const Tensor& gradient, DType dtype) {
  return gradient.dtype() == dtype ? gradient : cast_data(gradient, dtype);
}

}  // namespace

struct Tape::Node {
  const char* op;                    // nullptr for a leaf
  std::vector<std::int64_t> inputs;  // nodes; -1 for a constant
  Rule rule;
  Shape shape;
  DType dtype;
  bool is_watched = false;  // backward returns its gradient
};

struct Tape::Recording {
  std::uint64_t serial = next_serial();
  std::vector<Node> nodes;
  std::vector<Tensor> gradients;  // by node, during backward; undefined where nothing has arrived
};

// ---- Life of a tape ----

Tape::Tape()
    : recording_(current_tape ? current_tape->recording_ : new Recording),
      outer_(current_tape),
      first_node_(static_cast<std::int64_t>(recording_->nodes.size())) {
  current_tape = this;
}

Tape::~Tape() {
  // A vector of nodes, none of which holds another: freeing it needs no recursion, however deep the graph.
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

// ---- Forward: leaves and nodes ----

bool Tape::tracks(const Tensor& tensor) const {
  return tensor.trace().tape == recording_->serial && tensor.trace().node >= 0;
}

Tensor Tape::watch(const Tensor& tensor) {
  Tensor leaf = tensor;
  if (tracks(tensor)) {  // inside an outer tape: a new node, through which the outer gradient passes unchanged
    append("watch", leaf, {&tensor, 1}, [](const Tensor& dy, Chain& chain) { chain.add(0, dy); });
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

void Tape::append(const char* op, Tensor& output, std::span<const Tensor> inputs, Rule rule) {
  std::vector<std::int64_t> nodes;
  nodes.reserve(inputs.size());
  for (const Tensor& input : inputs) nodes.push_back(tracks(input) ? input.trace().node : -1);
  output.set_trace({recording_->serial, static_cast<std::int64_t>(recording_->nodes.size())});
  recording_->nodes.push_back({op, std::move(nodes), std::move(rule), output.shape(), output.dtype(), false});
  OpHook::show({op, -1, output});
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

const Tensor& Saved::operator*() const {
  VT_CHECK(!tensor_.defined() || tensor_.storage()->version() == version_,
           "{}: a tensor {} that backward needs was changed in place after the op (version {}, expected {})", op_,
           to_string(tensor_.shape()), tensor_.storage()->version(), version_);
  return tensor_;
}

// ---- Backward ----

bool Chain::wants(int input) const {
  return tape_.recording_->nodes[static_cast<std::size_t>(node_)].inputs[static_cast<std::size_t>(input)] >= 0;
}

Tensor Chain::output(const Saved& saved) const {
  Tensor output = *saved;
  output.set_trace({tape_.recording_->serial, node_});
  return output;
}

void Chain::add(int input, const Tensor& gradient) {
  Tape::Recording& recording = *tape_.recording_;
  const Tape::Node& node = recording.nodes[static_cast<std::size_t>(node_)];
  const std::int64_t target = node.inputs[static_cast<std::size_t>(input)];
  if (target < 0) return;
  const Tape::Node& producer = recording.nodes[static_cast<std::size_t>(target)];
  VT_CHECK(gradient.shape() == producer.shape && gradient.dtype() == producer.dtype,
           "{}: the gradient of input {} is {} {}, expected {} {} like the input", node.op ? node.op : "leaf", input,
           name_of(gradient.dtype()), to_string(gradient.shape()), name_of(producer.dtype), to_string(producer.shape));
  OpHook::show({node.op, input, gradient});
  Tensor& sum = recording.gradients[static_cast<std::size_t>(target)];
  if (!sum.defined()) {
    sum = gradient;
    return;
  }
  sum = in_dtype(sum, producer.dtype);  // what came first may have come through add_converted
  if (is_exclusive(sum) && !tape_.is_nested()) {
    add_into(sum, gradient);
  } else {
    Tensor total = clone(sum);
    add_into(total, gradient);
    sum = record("accumulate", total, {sum, gradient}, [](const Tensor& dy, Chain& chain) {
      chain.add(0, dy);
      chain.add(1, dy);
    });
  }
}

void Chain::add_converted(int input, const Tensor& gradient) {
  Tape::Recording& recording = *tape_.recording_;
  const std::int64_t target = recording.nodes[static_cast<std::size_t>(node_)].inputs[static_cast<std::size_t>(input)];
  if (target < 0) return;
  const Tape::Node& producer = recording.nodes[static_cast<std::size_t>(target)];
  Tensor& sum = recording.gradients[static_cast<std::size_t>(target)];
  const bool can_wait = !producer.op && !sum.defined() && !tape_.is_nested() && gradient.shape() == producer.shape;
  if (!can_wait) return add(input, in_dtype(gradient, producer.dtype));
  OpHook::show({recording.nodes[static_cast<std::size_t>(node_)].op, input, gradient});
  sum = gradient;
}

Tensor Chain::sum_to_add_to(int input) {
  Tape::Recording& recording = *tape_.recording_;
  const std::int64_t target = recording.nodes[static_cast<std::size_t>(node_)].inputs[static_cast<std::size_t>(input)];
  if (target < 0 || tape_.is_nested() || OpHook::is_alive()) return {};  // a hook sees what is added
  const Tensor& sum = recording.gradients[static_cast<std::size_t>(target)];
  const DType dtype = recording.nodes[static_cast<std::size_t>(target)].dtype;
  if (!sum.defined() || sum.dtype() != dtype || !is_exclusive(sum)) return {};
  sum.storage()->bump_version();
  return sum;
}

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
  // An outer tape needs the rules again, and records what they do. Otherwise nothing is recorded meanwhile.
  const bool keep_rules = options.retain || is_nested();
  consumed_ = !keep_rules;
  if (is_nested()) return run_backward(output.trace().node, std::move(dy), keep_rules);
  const PauseRecording pause;
  dy.set_trace({});
  return run_backward(output.trace().node, std::move(dy), keep_rules);
}

Gradients Tape::run_backward(std::int64_t from, Tensor dy, bool keep_rules) {
  // Swapped in for the length of this call, so that a backward inside a rule of another one has gradients of its own.
  std::vector<Tensor> gradients(static_cast<std::size_t>(from) + 1);
  std::swap(gradients, recording_->gradients);
  recording_->gradients[static_cast<std::size_t>(from)] = std::move(dy);
  try {
    for (std::int64_t i = from; i >= first_node_; --i) run_rule(i, keep_rules);
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

void Tape::run_rule(std::int64_t i, bool keep_rules) {
  const auto index = static_cast<std::size_t>(i);
  Node& node = recording_->nodes[index];
  if (!node.op) return;  // a leaf keeps its gradient
  // The rule leaves the node (or is copied) before it runs: it may append nodes, which moves the vector under our feet.
  const Rule rule = keep_rules ? node.rule : std::exchange(node.rule, nullptr);
  Tensor& slot = recording_->gradients[index];
  const Tensor gradient = node.is_watched ? slot : std::exchange(slot, Tensor());
  if (!gradient.defined()) return;
  const char* op = node.op;
  Chain chain(*this, i);
  try {
    rule(gradient, chain);
  } catch (OutOfMemory& error) {
    error.set_op(fmt::format("backward of {}", op));
    throw;
  }
}

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
