// The rule of recompute: a tape within the backward pass of another.
#include "autograd/recompute.h"

#include "autograd/tape.h"

namespace vitrine {
namespace {

/// Gives parameters back the traces of the outer tape, under which its gradients are looked up.
class KeepTraces {
 public:
  explicit KeepTraces(const std::vector<const Parameter*>& parameters) : parameters_(parameters) {
    for (const Parameter* parameter : parameters) traces_.push_back(parameter->trace());
  }
  ~KeepTraces() {
    for (std::size_t i = 0; i < traces_.size(); ++i) parameters_[i]->set_trace(traces_[i]);
  }
  KeepTraces(const KeepTraces&) = delete;
  KeepTraces& operator=(const KeepTraces&) = delete;

 private:
  const std::vector<const Parameter*>& parameters_;
  std::vector<Trace> traces_;
};

}  // namespace

Tensor recompute(const Recomputable& f, const Tensor& x, Generator* generator,
                 const std::vector<const Parameter*>& parameters) {
  if (!Tape::current() || is_recording_twice()) return f(x, generator);
  const char* op = "recompute";
  const Generator start = generator ? *generator : Generator{};
  std::vector<Tensor> inputs{x};
  std::vector<Saved> values;
  for (const Parameter* parameter : parameters) {
    inputs.push_back(*parameter);
    values.emplace_back(parameter->value(), op);
  }
  Tensor y;
  {
    const PauseRecording pause;
    y = f(x.detach(), generator);
  }
  return record(op, y, inputs,
                [f, x = Saved(x, op), values, parameters, start, draws = generator != nullptr](
                    const Tensor& dy, BackwardContext& context) {
                  for (const Saved& value : values) *value;  // an Error where one was changed
                  const KeepTraces keep(parameters);
                  Generator again = start;
                  Tape inside;
                  const Tensor leaf = inside.watch(x->detach());
                  const Gradients gradients = inside.backward(f(leaf, draws ? &again : nullptr), clone(dy));
                  if (context.wants(0) && gradients[leaf].defined()) context.add(0, gradients[leaf]);
                  for (std::size_t i = 0; i < parameters.size(); ++i) {
                    const Tensor gradient = gradients[*parameters[i]];
                    if (gradient.defined()) context.add(static_cast<int>(i) + 1, gradient);
                  }
                });
}

}  // namespace vitrine
