// An MLP from layers: parameters by name, AdamW, and a problem that no linear model can solve.
#include <fmt/core.h>

#include <cmath>

#include "nn/layers.h"
#include "optim/adamw.h"

using namespace vitrine;

/// A module is a plain struct that lists its fields; names, optimiser groups and checkpoints follow
/// from the list.
struct SpiralNet {
  Linear first, second, third;
  static void fields(auto& self, auto&& field) {
    field("first", self.first);
    field("second", self.second);
    field("third", self.third);
  }
  Tensor operator()(const Tensor& x) const { return third(gelu(second(gelu(first(x))))); }
};

/// Two interleaved spirals: points (count, 2) and their labels (count).
std::pair<Tensor, Tensor> make_spirals(std::int64_t count, std::uint64_t stream) {
  RandomSequence random(7, Purpose::generated_data, stream);
  Tensor points = empty({count, 2}), labels = empty({count}, DType::i64);
  for (std::int64_t i = 0; i < count; ++i) {
    const double t = random.uniform(0.5, 3), angle = 3.5 * t + (i % 2 ? 3.14159265 : 0);
    points.data<float>()[2 * i] = static_cast<float>(t * std::cos(angle) + 0.05 * random.normal());
    points.data<float>()[2 * i + 1] = static_cast<float>(t * std::sin(angle) + 0.05 * random.normal());
    labels.data<std::int64_t>()[i] = i % 2;
  }
  return {points, labels};
}

int main() {
  Initializer init(1);
  SpiralNet model{Linear::make(2, 64, init), Linear::make(64, 64, init), Linear::make(64, 2, init)};
  for (const auto& [name, parameter] : parameters(model)) fmt::print("{} {}\n", name, to_string(parameter->shape()));

  AdamW optimizer(weight_decay_groups(parameters(model), 0.01), {.learning_rate = 0.01});
  const auto [points, labels] = make_spirals(1000, 0);
  for (int step = 1; step <= 300; ++step) {
    Tape tape;
    Tensor loss = cross_entropy(model(points), labels);
    optimizer.step(tape.backward(loss));
    if (step % 100 == 0) fmt::print("step {}: loss {:.4f}\n", step, loss.item());
  }

  const auto [new_points, new_labels] = make_spirals(500, 1);
  const double accuracy = mean(cast(equal(argmax(model(new_points)), new_labels), DType::f32)).item();
  fmt::print("{:.1f}% of new points on the right spiral\n", 100 * accuracy);
  return accuracy > 0.97 ? 0 : 1;
}
