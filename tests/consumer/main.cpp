// A user's first program: fits a line by gradient descent with an installed Vitrine, and says
// whether it succeeded.
#include <cmath>
#include <cstdio>

#include "autograd/parameter.h"
#include "autograd/tape.h"
#include "ops/ops.h"

using namespace vitrine;

int main() {
  const Tensor x = from_values<float>({-1, 0, 1, 2}, {4, 1});  // (B, 1)
  const Tensor y = from_values<float>({-1, 1, 3, 5}, {4, 1});  // 2 x + 1
  Parameter weight(zeros({1, 1}));
  Parameter bias(zeros({1}));
  for (int step = 0; step < 200; ++step) {
    Tape tape;
    const Tensor loss = mean(square(sub(add(matmul(x, weight), bias), y)));
    const Gradients gradients = tape.backward(loss);
    add_into(weight.value(), mul(gradients[weight], -0.1));
    add_into(bias.value(), mul(gradients[bias], -0.1));
  }
  const double slope = weight.value().item();
  const double offset = bias.value().item();
  std::printf("y = %.4f x + %.4f\n", slope, offset);
  const bool found = std::abs(slope - 2) < 1e-3 && std::abs(offset - 1) < 1e-3;
  return found ? 0 : 1;
}
