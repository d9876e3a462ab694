// A scalar through the tape: what is recorded, and how backward walks it.
#include <fmt/core.h>

#include <cmath>

#include "ops/ops.h"

using namespace vitrine;

int main() {
  // f(a, b) = tanh(a b) + a, at a = 0.5, b = -2.
  Tape tape;  // from here on, ops on watched tensors are recorded
  Tensor a = tape.watch(full({}, 0.5, DType::f64));
  Tensor b = tape.watch(full({}, -2.0, DType::f64));
  Tensor f = tanh(a * b) + a;
  fmt::print("f = {:.6f}, on a tape of {} nodes: a, b, mul, tanh, add\n", f.item(), tape.size());

  // The graph, for Graphviz. Each node knows its inputs; creation order is topological order.
  fmt::print("{}", tape.to_dot());

  // Backward starts with df/df = 1 and visits the nodes from last to first. `a` is used twice, so
  // it receives two contributions, and they are added: df/da = (1 - tanh^2) b + 1.
  Gradients grads = tape.backward(f);
  const double slope = 1 - std::pow(std::tanh(-1.0), 2);
  fmt::print("df/da = {:.6f}, by hand {:.6f}\n", grads[a].item(), slope * -2 + 1);
  fmt::print("df/db = {:.6f}, by hand {:.6f}\n", grads[b].item(), slope * 0.5);
  VT_CHECK(std::abs(grads[a].item() - (slope * -2 + 1)) < 1e-12, "df/da is off");
  VT_CHECK(std::abs(grads[b].item() - slope * 0.5) < 1e-12, "df/db is off");

  // A tape inside a tape gives second derivatives: (x^3)'' = 6 x.
  Tape outer;
  Tensor x = outer.watch(full({}, 2.0, DType::f64));
  Tensor first;
  {
    Tape inner;
    Tensor leaf = inner.watch(x);
    first = inner.backward(leaf * leaf * leaf)[leaf];  // 3 x^2, itself recorded by the outer tape
  }
  Tensor second = outer.backward(first)[x];
  fmt::print("(x^3)' = {}, (x^3)'' = {} at x = 2\n", first.item(), second.item());
  return second.item() == 12 ? 0 : 1;
}
