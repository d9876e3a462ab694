// Optimisers: AdamW and clipping against PyTorch's numbers, SGD against its formula, groups, state, and bad gradients.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "ops/ops.h"
#include "optim/adamw.h"
#include "optim/sgd.h"
#include "optim/squared_norm.h"
#include "tensor/parallel.h"
#include "tests/expectations.h"
#include "tests/source_dir.h"
#include "train/safetensors.h"

namespace vitrine {
namespace {

std::map<std::string, Tensor> golden() { return read_safetensors(source_dir() + "/tests/golden/adamw.safetensors"); }

/// Runs a loss whose gradient is exactly `gradients`, in this order, through the tape.
Gradients gradients_of(Tape& tape, const std::vector<std::pair<Parameter*, Tensor>>& gradients) {
  Tensor loss = zeros({}, gradients[0].second.dtype());
  for (const auto& [parameter, gradient] : gradients) loss = loss + sum(mul(Tensor(*parameter), gradient));
  return tape.backward(loss);
}

void step_with(Optimizer& optimizer, const std::vector<std::pair<Parameter*, Tensor>>& gradients) {
  Tape tape;
  optimizer.step(gradients_of(tape, gradients));
}

Tensor random_tensor(const Shape& shape, std::uint64_t stream, DType dtype = DType::f64) {
  std::vector<double> values(static_cast<std::size_t>(element_count(shape)));
  RandomSequence random(9, Purpose::test, stream);
  for (double& v : values) v = random.normal();
  return cast_data(from_vector(values, shape), dtype);
}

// ---- AdamW ----

/// A hundred steps of the golden run; returns the worst error over all parameters after all steps.
double replay(DType dtype) {
  const auto file = golden();
  const auto lr = file.at("lr").to_vector<double>();
  const auto at = [&](const std::string& name, std::int64_t t) {
    return clone(cast_data(select(file.at(name), 0, t), dtype));
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

TEST(OptimAdamW, EqualsPyTorchOverAHundredSteps) { EXPECT_TRUE(replay(DType::f64) <= 1e-12) << replay(DType::f64); }

TEST(OptimAdamW, InFloatStaysCloseToPyTorchInDouble) {
  const double error = replay(DType::f32);
  EXPECT_TRUE(error <= 3e-5 && error > 1e-9) << error;
}

TEST(OptimAdamW, ResultsDoNotDependOnTheNumberOfThreads) {
  const int threads = num_threads();
  std::vector<std::vector<float>> results;
  for (const int used : {1, 3}) {
    set_num_threads(used);
    Parameter p(random_tensor({70001}, 1, DType::f32));
    AdamW optimizer({{.parameters = {{"p", &p}}, .weight_decay = 0.1}});
    for (std::uint64_t t = 0; t < 3; ++t) {
      Tape tape;
      optimizer.gather(gradients_of(tape, {{&p, random_tensor({70001}, 2 + t, DType::f32)}}));
      optimizer.clip(1);
      optimizer.step();
    }
    results.push_back(p.value().to_vector<float>());
  }
  set_num_threads(threads);
  EXPECT_EQ(results[0], results[1]);
}

// ---- SGD ----

TEST(OptimSgd, FollowsItsFormula) {
  for (const bool nesterov : {false, true}) {
    Parameter p(from_values<double>({1, -2}, {2}));
    Sgd optimizer({{.parameters = {{"p", &p}}, .weight_decay = 0.1, .learning_rate_scale = 0.5}},
                  {.learning_rate = 0.4, .momentum = 0.9, .nesterov = nesterov});
    std::vector<double> x{1, -2}, m{0, 0};
    for (std::uint64_t t = 0; t < 5; ++t) {
      const Tensor gradient = random_tensor({2}, t);
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

// ---- The arenas ----

TEST(Optim, ParametersKeepTheirValuesAndShapesInTheArena) {
  Parameter a(random_tensor({3, 5}, 1)), b(random_tensor({7}, 2));
  const auto before_a = a.value().to_vector<double>(), before_b = b.value().to_vector<double>();
  const AdamW optimizer({{.parameters = {{"a", &a}, {"b", &b}}}});
  EXPECT_EQ(a.value().to_vector<double>(), before_a);
  EXPECT_EQ(b.value().to_vector<double>(), before_b);
  EXPECT_EQ(a.shape(), (Shape{3, 5}));
  EXPECT_EQ(a.value().storage(), b.value().storage());
  EXPECT_EQ(optimizer.parameter_count(), 22);
}

TEST(Optim, AParameterWithoutGradientStaysAsItIs) {
  Parameter used(random_tensor({4}, 1)), unused(random_tensor({4}, 2)), last(random_tensor({4}, 3));
  AdamW optimizer({{.parameters = {{"used", &used}, {"unused", &unused}, {"last", &last}}, .weight_decay = 0.5}});
  const auto before = unused.value().to_vector<double>(), before_used = used.value().to_vector<double>(),
             before_last = last.value().to_vector<double>();
  step_with(optimizer, {{&used, ones({4}, DType::f64)}, {&last, ones({4}, DType::f64)}});
  EXPECT_EQ(unused.value().to_vector<double>(), before);
  EXPECT_NE(used.value().to_vector<double>(), before_used);
  EXPECT_NE(last.value().to_vector<double>(), before_last);
  EXPECT_THROW(optimizer.step(), Error);  // the gradients are used up
}

TEST(Optim, AStepAfterSavingIsNoticedByTheTape) {
  Parameter p(random_tensor({4}, 1));
  Sgd optimizer({{.parameters = {{"p", &p}}}});
  Tape tape;
  const Tensor x(p), loss = sum(mul(x, x));
  const Gradients gradients = tape.backward(loss, {.retain = true});
  optimizer.step(gradients);
  EXPECT_THROW(tape.backward(loss), Error);
}

TEST(Optim, AccumulatedGradientsAddUp) {
  const Tensor start = random_tensor({6}, 1), g1 = random_tensor({6}, 2), g2 = random_tensor({6}, 3);
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

TEST(OptimClip, EqualsPyTorch) {
  const auto file = golden();
  for (const std::string name : {"clip.above.", "clip.below."}) {
    std::vector<Parameter> parameters;
    std::vector<NamedParameter> named;
    for (int i = 0; i < 3; ++i)
      parameters.emplace_back(zeros(file.at(name + "grad" + std::to_string(i)).shape(), DType::f64));
    std::vector<std::pair<Parameter*, Tensor>> gradients;
    for (int i = 0; i < 3; ++i) {
      named.push_back({std::to_string(i), &parameters[static_cast<std::size_t>(i)]});
      gradients.emplace_back(named.back().parameter, file.at(name + "grad" + std::to_string(i)));
    }
    Sgd optimizer({{.parameters = named}}, {.learning_rate = 1, .momentum = 0});
    Tape tape;
    optimizer.gather(gradients_of(tape, gradients));
    const double norm = optimizer.clip(file.at(name + "max_norm").item());
    EXPECT_TRUE(std::abs(norm / file.at(name + "norm").item() - 1) <= 1e-14) << norm;
    optimizer.step();  // from 0 with rate 1: the parameter is minus the clipped gradient
    for (int i = 0; i < 3; ++i) {
      const Tensor clipped = file.at(name + "clipped" + std::to_string(i));
      EXPECT_TRUE(relative_error(mul(parameters[static_cast<std::size_t>(i)].value(), -1), clipped) <= 1e-14)
          << name << i;
    }
  }
}

TEST(OptimClip, SquaredNormCountsEveryElement) {
  for (const std::int64_t count : {0, 1, 7, 8, 13, (1 << 15) - 1, (1 << 15) + 9, 3 << 15}) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      EXPECT_EQ(squared_norm(full({count}, 3, dtype)), 9.0 * static_cast<double>(count)) << count;
    }
    if (count == 0) continue;
    Tensor x = ones({count});
    x.data<float>()[count - 1] = std::nanf("");
    EXPECT_TRUE(std::isnan(squared_norm(x))) << count;
  }
  EXPECT_EQ(squared_norm(full({2}, 1e30)), 2 * std::pow(static_cast<double>(1e30f), 2));  // no overflow in float
}

TEST(OptimClip, ZeroOnlyMeasures) {
  Parameter p(zeros({2}, DType::f64));
  Sgd optimizer({{.parameters = {{"p", &p}}}}, {.learning_rate = 1, .momentum = 0});
  Tape tape;
  optimizer.gather(gradients_of(tape, {{&p, from_values<double>({3, 4}, {2})}}));
  EXPECT_EQ(optimizer.clip(), 5);
  optimizer.step();
  EXPECT_EQ(p.value().to_vector<double>(), (std::vector<double>{-3, -4}));
}

TEST(OptimClip, ABadGradientIsNamedAndChangesNothing) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Parameter a(random_tensor({3}, 1)), b(random_tensor({40}, 2)), c(random_tensor({3}, 3));
    AdamW optimizer({{.parameters = {{"a", &a}, {"layer.b", &b}, {"c", &c}}, .weight_decay = 0.1}});
    const auto before = a.value().to_vector<double>();
    Tensor bad_gradient = ones({40}, DType::f64);
    bad_gradient.data<double>()[37] = bad;
    Tape tape;
    const Gradients gradients =
        gradients_of(tape, {{&a, ones({3}, DType::f64)}, {&b, bad_gradient}, {&c, mul(ones({3}, DType::f64), bad)}});
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

// ---- Groups ----

TEST(OptimGroups, NoDecayForOneDimAndForListedNames) {
  Parameter matrix(ones({2, 2})), bias(ones({2})), embedding(ones({1, 3, 2})), token(ones({1, 1, 2}));
  const auto groups = weight_decay_groups(
      {{"fc.weight", &matrix}, {"fc.bias", &bias}, {"pos_embed", &embedding}, {"encoder.cls_token", &token}}, 0.3,
      {"pos_embed", "cls_token"});
  ASSERT_EQ(groups.size(), 2u);
  ASSERT_EQ(groups[0].parameters.size(), 1u);
  EXPECT_EQ(groups[0].parameters[0].name, "fc.weight");
  EXPECT_EQ(groups[0].weight_decay, 0.3);
  EXPECT_EQ(groups[1].parameters.size(), 3u);
  EXPECT_EQ(groups[1].weight_decay, 0);
  EXPECT_EQ(weight_decay_groups({{"fc.bias", &bias}}, 0.3).size(), 1u);
}

TEST(OptimGroups, MistakesAreErrors) {
  Parameter p(ones({2})), whole(ones({2}, DType::i64)), twice(ones({2}, DType::f64)), nothing;
  EXPECT_THROW(AdamW({}), Error);
  EXPECT_THROW(AdamW({{.parameters = {{"p", &p}, {"q", &p}}}}), Error);
  EXPECT_THROW(AdamW({{.parameters = {{"i", &whole}}}}), Error);
  EXPECT_THROW(AdamW({{.parameters = {{"p", &p}, {"t", &twice}}}}), Error);
  EXPECT_THROW(AdamW({{.parameters = {{"n", &nothing}}}}), Error);
  EXPECT_THROW(AdamW({{.parameters = {{"p", &p}}, .weight_decay = -1}}), Error);
  EXPECT_THROW(AdamW({{.parameters = {{"p", &p}}}}, {.beta1 = 1}), Error);
  EXPECT_THROW(AdamW({{.parameters = {{"p", &p}}}}, {.learning_rate = std::nan("")}), Error);
}

// ---- State ----

TEST(OptimState, ContinuesBitForBit) {
  const auto gradient = [](std::uint64_t t) { return random_tensor({9}, 50 + t, DType::f32); };
  Parameter p(random_tensor({9}, 1, DType::f32));
  AdamW optimizer({{.parameters = {{"p", &p}}, .weight_decay = 0.1}});
  for (std::uint64_t t = 0; t < 3; ++t) step_with(optimizer, {{&p, gradient(t)}});

  Parameter q(clone(p.value()));
  AdamW resumed({{.parameters = {{"p", &q}}, .weight_decay = 0.1}});
  resumed.load_state(optimizer.state());
  EXPECT_EQ(resumed.step_count(), 3);
  for (std::uint64_t t = 3; t < 6; ++t) {
    step_with(optimizer, {{&p, gradient(t)}});
    step_with(resumed, {{&q, gradient(t)}});
  }
  EXPECT_EQ(p.value().to_vector<float>(), q.value().to_vector<float>());
}

TEST(OptimState, AStateThatDoesNotFitChangesNothing) {
  Parameter p(random_tensor({9}, 1)), other(random_tensor({8}, 1));
  AdamW optimizer({{.parameters = {{"p", &p}}}});
  step_with(optimizer, {{&p, ones({9}, DType::f64)}});
  const AdamW wrong_shape({{.parameters = {{"p", &other}}}});
  OptimizerState incomplete = optimizer.state();
  incomplete.tensors.pop_back();
  const auto before = optimizer.state().tensors[0].second.to_vector<double>();
  EXPECT_THROW(optimizer.load_state(wrong_shape.state()), Error);
  EXPECT_THROW(optimizer.load_state(incomplete), Error);
  EXPECT_EQ(optimizer.state().tensors[0].second.to_vector<double>(), before);
  EXPECT_EQ(optimizer.step_count(), 1);
}

}  // namespace
}  // namespace vitrine
