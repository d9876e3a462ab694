// What optimisers compute, on the CPU and on CUDA: AdamW and clipping against PyTorch's numbers,
// SGD and averages against their formulas, and what becomes of a gradient that is not finite.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "optim/adamw.h"
#include "optim/arena/squared_norm.h"
#include "optim/average.h"
#include "optim/sgd.h"
#include "tests/optim/optimizer_steps.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"

namespace vitrine {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

class OptimOnDevice : public testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (GetParam().is_cuda() && cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  }
  static Tensor here(const Tensor& x) { return to_device(x, GetParam()); }
  static Tensor random(const Shape& shape, std::uint64_t stream, DType dtype = DType::f64) {
    return random_tensor(shape, stream, dtype, GetParam());
  }
};

#if VT_CUDA
const auto devices = testing::Values(cpu, cuda());
#else
const auto devices = testing::Values(cpu);
#endif
INSTANTIATE_TEST_SUITE_P(Each, OptimOnDevice, devices,
                         [](const auto& test) { return test.param.is_cuda() ? "Cuda" : "Cpu"; });

std::map<std::string, Tensor> golden() { return read_safetensors(source_dir() + "/tests/golden/adamw.safetensors"); }

// ---- AdamW ----

/// A hundred steps of the golden run; returns the worst error over all parameters after all steps.
double replay(DType dtype, Device device) {
  const auto file = golden();
  const auto lr = file.at("lr").to_vector<double>();
  const auto at = [&](const std::string& name, std::int64_t t) {
    return to_device(clone(cast_data(select(file.at(name), 0, t), dtype)), device);
  };
  Parameter weight(at("param.weight", 0)), bias(at("param.bias", 0));
  AdamW optimizer(weight_decay_groups({{"weight", &weight}, {"bias", &bias}}, 0.05), {.beta1 = 0.9, .beta2 = 0.99});
  double worst = 0;
  for (std::int64_t t = 0; t < 100; ++t) {
    optimizer.set_learning_rate(lr[static_cast<std::size_t>(t)]);
    step_with(optimizer, {{&weight, at("grad.weight", t)}, {&bias, at("grad.bias", t)}});
    for (const auto& [name, parameter] : {std::pair{"param.weight", &weight}, std::pair{"param.bias", &bias}}) {
      const double error = relative_error(parameter->value(), select(file.at(name), 0, t + 1));
      worst = std::max(worst, error);
    }
  }
  for (const auto& [name, tensor] : optimizer.state().tensors) {  // first_moment.weight, second_moment.bias, ...
    const std::string stored = (name.starts_with("first") ? "first" : "second") + name.substr(name.find('.'));
    const double error = relative_error(tensor, file.at(stored));
    worst = std::max(worst, error);
  }
  return worst;
}

TEST_P(OptimOnDevice, AdamWEqualsPyTorchOverAHundredSteps) {
  const double error = replay(DType::f64, GetParam());
  EXPECT_TRUE(error <= 1e-12) << error;
}

TEST_P(OptimOnDevice, AdamWInFloatStaysCloseToPyTorchInDouble) {
  const double error = replay(DType::f32, GetParam());
  EXPECT_TRUE(error <= 3e-5 && error > 1e-9) << error;
}

// ---- SGD, averages ----

TEST_P(OptimOnDevice, SgdFollowsItsFormula) {
  for (const bool nesterov : {false, true}) {
    Parameter p(here(from_values<double>({1, -2}, {2})));
    Sgd optimizer({{.parameters = {{"p", &p}}, .weight_decay = 0.1, .learning_rate_scale = 0.5}},
                  {.learning_rate = 0.4, .momentum = 0.9, .nesterov = nesterov});
    std::vector<double> x{1, -2}, m{0, 0};
    for (std::uint64_t t = 0; t < 5; ++t) {
      const Tensor gradient = random({2}, t);
      step_with(optimizer, {{&p, gradient}});
      for (std::size_t i = 0; i < 2; ++i) {
        const double g = gradient.to_vector<double>()[i] + 0.1 * x[i];
        m[i] = 0.9 * m[i] + g;
        x[i] -= 0.4 * 0.5 * (nesterov ? g + 0.9 * m[i] : m[i]);
        EXPECT_TRUE(std::abs(p.value().to_vector<double>()[i] - x[i]) <= 1e-14) << t;
      }
    }
  }
}

/// Elements that begin at an address of whole packs, and one element later.
TEST_P(OptimOnDevice, AnAverageReachesExactlyItsElements) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const std::int64_t shift : {0, 1}) {
      const Tensor from = random({40}, 1, dtype), to = random({40}, 2, dtype);
      auto expected = cast_data(to, DType::f64).to_vector<double>();
      const auto added = cast_data(from, DType::f64).to_vector<double>();
      for (auto i = static_cast<std::size_t>(shift); i < 37; ++i) expected[i] = 0.75 * expected[i] + 0.25 * added[i];
      Parameter source(slice(from, 0, shift, 37)), target(slice(to, 0, shift, 37));
      ParameterAverage({{"p", &source}}, {{"p", &target}}, 0.75).update();
      expect_near(cast_data(to, DType::f64), expected, dtype == DType::f64 ? 1e-15 : 1e-6);
    }
  }
}

// ---- Parameters that an update leaves out, gradients in parts ----

TEST_P(OptimOnDevice, AParameterWithoutGradientStaysAsItIs) {
  Parameter used(random({4}, 1)), unused(random({4}, 2)), last(random({4}, 3));
  AdamW optimizer({{.parameters = {{"used", &used}, {"unused", &unused}, {"last", &last}}, .weight_decay = 0.5}});
  const auto before = unused.value().to_vector<double>(), before_used = used.value().to_vector<double>(),
             before_last = last.value().to_vector<double>();
  step_with(optimizer, {{&used, here(ones({4}, DType::f64))}, {&last, here(ones({4}, DType::f64))}});
  EXPECT_EQ(unused.value().to_vector<double>(), before);
  EXPECT_NE(used.value().to_vector<double>(), before_used);
  EXPECT_NE(last.value().to_vector<double>(), before_last);
  EXPECT_THROW(optimizer.step(), Error);  // the gradients are used up
}

TEST_P(OptimOnDevice, AccumulatedGradientsAddUp) {
  const Tensor start = random({6}, 1), g1 = random({6}, 2), g2 = random({6}, 3);
  Parameter parts(clone(start)), whole(clone(start));
  AdamW by_parts({{.parameters = {{"p", &parts}}}}), at_once({{.parameters = {{"p", &whole}}}});
  for (const Tensor& g : {g1, g2}) {
    Tape tape;
    by_parts.accumulate(gradients_of(tape, {{&parts, g}}), 0.5);
  }
  by_parts.step();
  step_with(at_once, {{&whole, mul(add(g1, g2), 0.5)}});
  EXPECT_TRUE(relative_error(parts.value(), whole.value()) <= 1e-14);
}

// ---- Clipping ----

TEST_P(OptimOnDevice, ClippingEqualsPyTorch) {
  const auto file = golden();
  for (const std::string name : {"clip.above.", "clip.below."}) {
    std::vector<Parameter> parameters(3);
    std::vector<NamedParameter> named;
    std::vector<std::pair<Parameter*, Tensor>> gradients;
    for (std::size_t i = 0; i < 3; ++i) {
      const Tensor gradient = here(file.at(name + "grad" + std::to_string(i)));
      parameters[i] = Parameter(zeros_like(gradient));
      named.push_back({std::to_string(i), &parameters[i]});
      gradients.emplace_back(&parameters[i], gradient);
    }
    Sgd optimizer({{.parameters = named}}, {.learning_rate = 1, .momentum = 0});
    Tape tape;
    optimizer.set_gradients(gradients_of(tape, gradients));
    const double norm = optimizer.clip(file.at(name + "max_norm").item());
    EXPECT_TRUE(std::abs(norm / file.at(name + "norm").item() - 1) <= 1e-14) << norm;
    optimizer.step();  // from 0 with rate 1: the parameter is minus the clipped gradient
    for (std::size_t i = 0; i < 3; ++i) {
      const Tensor clipped = file.at(name + "clipped" + std::to_string(i));
      EXPECT_TRUE(relative_error(mul(parameters[i].value(), -1), clipped) <= 1e-14) << name << i;
    }
  }
}

TEST_P(OptimOnDevice, SquaredNormCountsEveryElement) {
  for (const std::int64_t count : {0, 1, 7, 8, 13, (1 << 15) - 1, (1 << 15) + 9, 3 << 15}) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      EXPECT_EQ(squared_norm(here(full({count}, 3, dtype))), 9.0 * static_cast<double>(count)) << count;
    }
    if (count == 0) continue;
    Tensor x = ones({count});
    x.data<float>()[count - 1] = std::nanf("");
    EXPECT_TRUE(std::isnan(squared_norm(here(x)))) << count;
  }
  EXPECT_EQ(squared_norm(here(full({2}, 1e30))), 2 * std::pow(static_cast<double>(1e30f), 2));  // no overflow in float
}

// ---- Gradients that are not finite ----

TEST_P(OptimOnDevice, ABadGradientIsNamedAndChangesNothing) {
  for (const double bad : {nan, infinity}) {
    Parameter a(random({3}, 1)), b(random({40}, 2)), c(random({3}, 3));
    AdamW optimizer({{.parameters = {{"a", &a}, {"layer.b", &b}, {"c", &c}}, .weight_decay = 0.1}});
    const auto before = a.value().to_vector<double>();
    Tensor bad_gradient = ones({40}, DType::f64);
    bad_gradient.data<double>()[37] = bad;
    Tape tape;
    const Gradients gradients = gradients_of(
        tape, {{&a, here(ones({3}, DType::f64))}, {&b, here(bad_gradient)}, {&c, here(full({3}, bad, DType::f64))}});
    try {
      optimizer.step(gradients);  // even without a call of clip
      FAIL() << "a gradient of " << bad << " was used";
    } catch (const NonFiniteGradient& error) {
      EXPECT_EQ(error.parameter(), "layer.b");
      EXPECT_STREQ(error.what(), "adamw: the gradient of layer.b is not finite in step 1; no parameter was changed");
    }
    EXPECT_EQ(a.value().to_vector<double>(), before);
    EXPECT_EQ(optimizer.step_count(), 0);
    for (const auto& [name, tensor] : optimizer.state().tensors) {
      for (const double v : tensor.to_vector<double>()) EXPECT_EQ(v, 0) << name;
    }
  }
}

TEST_P(OptimOnDevice, TheBadGradientOfAnUpdateThatDidNotWaitIsNamed) {
  Parameter p(random({21}, 1));
  Sgd optimizer({{.parameters = {{"layer.p", &p}}}});
  Tape tape;
  optimizer.set_gradients(gradients_of(tape, {{&p, here(full({21}, infinity, DType::f64))}}));
  optimizer.prepare_step();
  optimizer.run_step(1);
  EXPECT_EQ(error_of([&] { optimizer.throw_non_finite(); }),
            "sgd: the gradient of layer.p is not finite in step 1; no parameter was changed");
}

}  // namespace
}  // namespace vitrine
