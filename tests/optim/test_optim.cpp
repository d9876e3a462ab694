// Optimisers: threads, arenas, groups, and state that does not fit. What they compute is in
// test_optim_devices.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "ops/ops.h"
#include "optim/adamw.h"
#include "optim/sgd.h"
#include "tensor/parallel.h"
#include "tests/optim/optimizer_steps.h"

namespace vitrine {
namespace {

// ---- AdamW ----

TEST(OptimAdamW, ResultsDoNotDependOnTheNumberOfThreads) {
  const int threads = num_threads();
  std::vector<std::vector<float>> results;
  for (const int used : {1, 3}) {
    set_num_threads(used);
    Parameter p(random_tensor({70001}, 1, DType::f32));
    AdamW optimizer({{.parameters = {{"p", &p}}, .weight_decay = 0.1}});
    for (std::uint64_t t = 0; t < 3; ++t) {
      Tape tape;
      optimizer.set_gradients(gradients_of(tape, {{&p, random_tensor({70001}, 2 + t, DType::f32)}}));
      optimizer.clip(1);
      optimizer.step();
    }
    results.push_back(p.value().to_vector<float>());
  }
  set_num_threads(threads);
  EXPECT_EQ(results[0], results[1]);
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

TEST(Optim, AStepAfterSavingIsNoticedByTheTape) {
  Parameter p(random_tensor({4}, 1));
  Sgd optimizer({{.parameters = {{"p", &p}}}});
  Tape tape;
  const Tensor x(p), loss = sum(mul(x, x));
  const Gradients gradients = tape.backward(loss, {.retain = true});
  optimizer.step(gradients);
  EXPECT_THROW(tape.backward(loss), Error);
}

// ---- Clipping ----

TEST(OptimClip, ZeroOnlyMeasures) {
  Parameter p(zeros({2}, DType::f64));
  Sgd optimizer({{.parameters = {{"p", &p}}}}, {.learning_rate = 1, .momentum = 0});
  Tape tape;
  optimizer.set_gradients(gradients_of(tape, {{&p, from_values<double>({3, 4}, {2})}}));
  EXPECT_EQ(optimizer.clip(), 5);
  optimizer.step();
  EXPECT_EQ(p.value().to_vector<double>(), (std::vector<double>{-3, -4}));
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

TEST(OptimGroups, ShareDecayAndLearningRate) {
  Parameter matrix(ones({2, 2})), bias(ones({2})), head(ones({3, 2})), embedding(ones({1, 3, 2}));
  const std::vector<NamedParameter> parameters{
      {"pos_embed", &embedding}, {"fc.weight", &matrix}, {"fc.bias", &bias}, {"head.weight", &head}};
  const auto groups = parameter_groups(
      parameters, {.weight_decay = 0.3, .no_decay = {"pos_embed"}, .learning_rate_scales = {0.5, 1, 0.5, 0.5}});
  ASSERT_EQ(groups.size(), 3u);
  const auto expect_group = [](const ParameterGroup& group, double decay, double scale,
                               const std::vector<std::string>& names) {
    EXPECT_EQ(group.weight_decay, decay);
    EXPECT_EQ(group.learning_rate_scale, scale);
    ASSERT_EQ(group.parameters.size(), names.size());
    for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(group.parameters[i].name, names[i]);
  };
  expect_group(groups[0], 0.3, 0.5, {"head.weight"});
  expect_group(groups[1], 0.3, 1, {"fc.weight"});
  expect_group(groups[2], 0, 0.5, {"pos_embed", "fc.bias"});
  EXPECT_THROW(parameter_groups(parameters, {.learning_rate_scales = {1}}), Error);
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
