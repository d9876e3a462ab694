// Your own op with its gradient check: softsign(x) = x / (1 + |x|).
#include <fmt/core.h>

#include <cmath>

#include "autograd/gradcheck.h"
#include "ops/ops.h"

using namespace vitrine;

/// y = x / (1 + |x|). f64, any shape. dx = dy / (1 + |x|)^2.
Tensor softsign(const Tensor& x) {
  Tensor input = contiguous_data(x), y = empty(x.shape(), DType::f64);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const double value = input.data<double>()[i];
    y.data<double>()[i] = value / (1 + std::abs(value));
  }
  // The rule keeps what it needs, here x. It is written with ops, so it can be differentiated
  // again.
  return record("softsign", y, {x}, [x = Saved(x, "softsign")](const Tensor& dy, BackwardContext& context) {
    context.add(0, dy / square(abs(*x) + 1.0));
  });
}

/// The same with a mistake in it: the square is missing.
Tensor wrong_softsign(const Tensor& x) {
  return record("wrong_softsign", softsign(x.detach()), {x},
                [x = Saved(x, "wrong_softsign")](const Tensor& dy, BackwardContext& context) {
                  context.add(0, dy / (abs(*x) + 1.0));
                });
}

int main() {
  Tensor x = from_values<double>({-3, -0.5, 0.25, 1, 2, 10}, {2, 3});

  // The check compares every entry of the Jacobian with finite differences, to 7 digits.
  GradcheckReport good = check_gradients([](const auto& in) { return softsign(in[0]); }, {x});
  fmt::print("softsign: {}, {} entries, worst relative error {:.1e}\n", good.passed ? "passed" : "FAILED", good.entries,
             good.worst_relative_error);

  // Other layouts are other inputs: a rule that forgets strides shows here.
  GradcheckReport transposed = check_gradients([](const auto& in) { return softsign(transpose(in[0])); }, {x});
  fmt::print("softsign, transposed: {}\n", transposed.passed ? "passed" : "FAILED");

  GradcheckReport bad = check_gradients([](const auto& in) { return wrong_softsign(in[0]); }, {x});
  fmt::print("wrong_softsign: {}: {}\n", bad.passed ? "passed" : "caught", bad.message);
  return good.passed && transposed.passed && !bad.passed ? 0 : 1;
}
