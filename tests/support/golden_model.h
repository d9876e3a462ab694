// A model with timm's weights against timm's logits, loss and gradients (tests/golden/README.md
// tells how they were made).
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "ops/ops.h"
#include "tests/support/expectations.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"

namespace vitrine {

/// Relative error, or the largest magnitude where 0 is expected: gradients that vanish in exact
/// arithmetic are stored so.
inline double gradient_error(const Tensor& gradient, const Tensor& expected) {
  const bool vanishes = amax(abs(expected)).item() == 0;
  return vanishes ? relative_error(gradient + 1, expected + 1) : relative_error(gradient, expected);
}

/// `loss_of(model, file)` compares what else there is to compare, and returns the loss.
template <class M, class LossOf>
void compare_gradients(const std::string& file_name, M model, double bound, const LossOf& loss_of) {
  const auto file = read_safetensors(source_dir() + "/tests/golden/" + file_name);
  StateDict weights;
  std::size_t parameters = 0;
  for (const auto& [name, tensor] : file) {
    if (name.starts_with("param.")) weights.emplace_back(name.substr(6), tensor), ++parameters;
    if (name.starts_with("buffer.")) weights.emplace_back(name.substr(7), tensor);
  }
  load_state_dict(model, weights);
  Tape tape;
  const Tensor loss = loss_of(model, file);
  const Gradients gradients = tape.backward(loss);
  EXPECT_TRUE(relative_error(loss, file.at("loss")) <= bound) << relative_error(loss, file.at("loss"));
  std::size_t compared = 0;
  for_each_parameter(model, [&](const std::string& name, const Parameter& p) {
    const double error = gradient_error(gradients[p], file.at("grad." + name));
    EXPECT_TRUE(error <= bound) << name << ": " << error;
    ++compared;
  });
  EXPECT_EQ(compared, parameters);
}

/// Logits, their mean cross entropy, and all its gradients.
template <class M>
void compare_with_timm(const std::string& file_name, const M& model, DType dtype, double bound) {
  compare_gradients(file_name, model, bound, [&](const M& loaded, const auto& file) {
    const Tensor logits = loaded(cast_data(file.at("images"), dtype));
    EXPECT_TRUE(relative_error(logits, file.at("logits")) <= bound) << relative_error(logits, file.at("logits"));
    return cross_entropy(logits, file.at("labels"));
  });
}

/// The same of a model with running statistics: logits at inference, then loss, gradients and
/// statistics of a pass in training.
template <class M>
void compare_in_training(const std::string& file_name, const M& model, DType dtype, double bound) {
  compare_gradients(file_name, model, bound, [&](const M& loaded, const auto& file) {
    const Tensor images = cast_data(file.at("images"), dtype);
    const auto compare_with = [&](const std::string& name, const Tensor& tensor) {
      const double error = relative_error(tensor, file.at(name));
      EXPECT_TRUE(error <= bound) << name << ": " << error;
    };
    {
      const PauseRecording pause;
      compare_with("eval_logits", loaded(images));
    }
    const Tensor logits = loaded(images, {.training = true});
    compare_with("logits", logits);
    std::size_t buffers = 0;
    for (const auto& [name, tensor] : state_dict(loaded)) {
      if (!file.contains("after." + name)) continue;
      compare_with("after." + name, cast_data(tensor, dtype));
      ++buffers;
    }
    EXPECT_GT(buffers, 0u);
    return cross_entropy(logits, file.at("labels"));
  });
}

}  // namespace vitrine
