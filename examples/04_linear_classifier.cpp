// A linear classifier on real digits: data, a loss, and gradient descent by hand.
//   04_linear_classifier [FOLDER with digits-images-idx3-ubyte.gz and digits-labels-idx1-ubyte.gz]
#include <fmt/core.h>

#include <string>

#include "data/datasets/dataset.h"
#include "ops/ops.h"

using namespace vitrine;

struct Digits {
  Tensor images;  // (count, 64) f32 in [0, 1]
  Tensor labels;  // (count) i64
};

/// Samples first ... last - 1. The images are grey, so one channel of three is enough.
Digits load(const Dataset& dataset, std::int64_t first, std::int64_t last) {
  Digits digits{empty({last - first, 64}), empty({last - first}, DType::i64)};
  for (std::int64_t i = first; i < last; ++i) {
    const Sample sample = dataset.get(i);
    for (std::size_t p = 0; p < 64; ++p) {
      digits.images.data<float>()[(i - first) * 64 + static_cast<std::int64_t>(p)] =
          static_cast<float>(sample.image.pixels[3 * p]) / 255;
    }
    digits.labels.data<std::int64_t>()[i - first] = sample.label;
  }
  return digits;
}

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "examples/data";
  const auto dataset = open_idx(folder + "/digits-images-idx3-ubyte.gz", folder + "/digits-labels-idx1-ubyte.gz");
  const Digits train = load(*dataset, 0, 1397), test = load(*dataset, 1397, 1797);

  Parameter weight(zeros({10, 64})), bias(zeros({10}));
  for (int step = 1; step <= 200; ++step) {
    Tape tape;
    Tensor loss = cross_entropy(linear(train.images, weight, Tensor(bias)), train.labels);
    Gradients grads = tape.backward(loss);
    // weight -= 0.5 gradient: in place, so the next step sees it.
    add_into(weight.value(), grads[weight] * -0.5);
    add_into(bias.value(), grads[bias] * -0.5);
    if (step % 50 == 0) fmt::print("step {:3}: loss {:.4f}\n", step, loss.item());
  }

  Tensor predicted = argmax(linear(test.images, weight, Tensor(bias)));  // no tape alive: nothing is recorded
  const double accuracy = mean(cast(equal(predicted, test.labels), DType::f32)).item();
  fmt::print("{:.1f}% of {} digits that it has not seen\n", 100 * accuracy, test.labels.numel());
  return accuracy > 0.85 ? 0 : 1;
}
