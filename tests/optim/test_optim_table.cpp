// What every optimiser of the table promises, on the CPU and on CUDA: a new row is tested without a
// line here.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "optim/arena/squared_norm.h"
#include "optim/optimizer_table.h"
#include "tensor/device/graph.h"
#include "tensor/parallel.h"
#include "tests/optim/optimizer_steps.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

using Case = std::pair<std::string, Device>;

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const OptimizerRow& row : optimizer_table()) {
    cases.emplace_back(row.name, cpu);
#if VT_CUDA
    cases.emplace_back(row.name, cuda());
#endif
  }
  return cases;
}

/// Three parameters, of which an optimiser may treat matrices in another way, and an optimiser of
/// them.
struct Trained {
  Trained(const Case& c, DType dtype, double learning_rate = 0.01)
      : matrix(random_tensor({6, 10}, 1, dtype, c.second)),
        filter(random_tensor({12, 2, 2, 2}, 2, dtype, c.second)),
        bias(random_tensor({37}, 3, dtype, c.second)),
        optimizer(make_optimizer(c.first,
                                 weight_decay_groups({{"matrix", &matrix}, {"filter", &filter}, {"bias", &bias}}, 0.1),
                                 {.learning_rate = learning_rate})) {}

  std::vector<std::pair<Parameter*, Tensor>> gradients(std::uint64_t t) {
    std::vector<std::pair<Parameter*, Tensor>> all;
    for (Parameter* p : {&matrix, &filter, &bias}) {
      all.emplace_back(p,
                       random_tensor(p->shape(), 10 * (t + 1) + all.size(), p->value().dtype(), p->value().device()));
    }
    return all;
  }

  /// An update that does not wait for the GPU.
  void run(const std::vector<std::pair<Parameter*, Tensor>>& gradients, const Tensor& loss = {}) {
    Tape tape;
    optimizer->set_gradients(gradients_of(tape, gradients));
    optimizer->prepare_step();
    optimizer->run_step(1, loss);
  }

  /// Parameters and state.
  std::vector<double> everything() const {
    std::vector<Tensor> tensors{matrix.value(), filter.value(), bias.value()};
    for (const auto& [name, tensor] : optimizer->state().tensors) tensors.push_back(tensor);
    std::vector<double> values;
    for (const Tensor& tensor : tensors) {
      for (const double v : cast_data(tensor, DType::f64).to_vector<double>()) values.push_back(v);
    }
    return values;
  }

  Parameter matrix, filter, bias;
  std::unique_ptr<Optimizer> optimizer;
};

class EveryOptimizer : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().second.is_cuda() && cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  }
};

INSTANTIATE_TEST_SUITE_P(Each, EveryOptimizer, testing::ValuesIn(all_cases()), [](const auto& test) {
  return test.param.first + (test.param.second.is_cuda() ? "_Cuda" : "_Cpu");
});

TEST_P(EveryOptimizer, ContinuesBitForBit) {
  Trained whole(GetParam(), DType::f32), resumed(GetParam(), DType::f32);
  for (std::uint64_t t = 0; t < 3; ++t) step_with(*whole.optimizer, whole.gradients(t));
  const std::pair<Parameter*, Parameter*> pairs[] = {
      {&resumed.matrix, &whole.matrix}, {&resumed.filter, &whole.filter}, {&resumed.bias, &whole.bias}};
  for (const auto& [target, source] : pairs) copy_into(target->value(), source->value());
  resumed.optimizer->load_state(whole.optimizer->state());
  EXPECT_EQ(resumed.optimizer->step_count(), 3);
  for (std::uint64_t t = 3; t < 6; ++t) {
    step_with(*whole.optimizer, whole.gradients(t));
    step_with(*resumed.optimizer, resumed.gradients(t));
  }
  EXPECT_EQ(whole.everything(), resumed.everything());
}

TEST_P(EveryOptimizer, GivesTheSameBitsForAnyNumberOfThreads) {
  const int threads = num_threads();
  std::vector<std::vector<double>> results;
  for (const int used : {1, 3}) {
    set_num_threads(used);
    Trained trained(GetParam(), DType::f32);
    for (std::uint64_t t = 0; t < 3; ++t) trained.run(trained.gradients(t));
    results.push_back(trained.everything());
  }
  set_num_threads(threads);
  EXPECT_EQ(results[0], results[1]);
}

/// After a good update come a bad one, by its gradient or its loss, and another good one: both are
/// skipped. Once the host has read it, updates go on as in a run that never met the bad one.
TEST_P(EveryOptimizer, SkipsStepsUntilTheHostKnowsOfABadOne) {
  const Device device = GetParam().second;
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const bool by_loss : {false, true}) {
    Trained trained(GetParam(), DType::f64), other(GetParam(), DType::f64);
    trained.run(trained.gradients(0));
    other.run(other.gradients(0));
    const auto before = trained.everything();
    auto bad = trained.gradients(1);
    if (!by_loss) fill(bad[0].second, nan);
    trained.run(bad, by_loss ? to_device(full({}, infinity, DType::f64), device) : Tensor());
    trained.run(trained.gradients(2));
    EXPECT_EQ(trained.everything(), before);
    EXPECT_EQ(trained.optimizer->statistics().to_vector<double>()[skipped_steps], 2);
    EXPECT_THROW(trained.optimizer->throw_non_finite(), NonFiniteGradient);
    EXPECT_EQ(trained.optimizer->step_count(), 1);
    trained.run(trained.gradients(3));
    other.run(other.gradients(3));
    EXPECT_EQ(trained.everything(), other.everything());
    EXPECT_NE(trained.everything(), before);
  }
}

TEST_P(EveryOptimizer, LeavesAParameterWithoutGradientAsItIs) {
  for (const std::size_t unused : {0u, 1u, 2u}) {
    Trained trained(GetParam(), DType::f64);
    auto gradients = trained.gradients(0);
    std::vector<std::vector<double>> before;
    for (const auto& [parameter, gradient] : gradients) before.push_back(parameter->value().to_vector<double>());
    std::vector<std::pair<Parameter*, Tensor>> given = gradients;
    given.erase(given.begin() + static_cast<std::ptrdiff_t>(unused));
    step_with(*trained.optimizer, given);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const bool same = gradients[i].first->value().to_vector<double>() == before[i];
      EXPECT_EQ(same, i == unused) << i;
    }
  }
}

TEST_P(EveryOptimizer, TakesItsLearningRateFromTheLastCall) {
  Trained trained(GetParam(), DType::f64, 0.5);
  trained.optimizer->set_learning_rate(0);
  const auto before = trained.matrix.value().to_vector<double>();
  step_with(*trained.optimizer, trained.gradients(0));
  EXPECT_EQ(trained.matrix.value().to_vector<double>(), before);
}

/// The squared distance of a linear map from another, over 100 steps.
TEST_P(EveryOptimizer, FitsALinearMap) {
  Trained trained(GetParam(), DType::f32, 0.05);
  const Device device = GetParam().second;
  const Tensor x = random_tensor({32, 10}, 7, DType::f32, device), map = random_tensor({6, 10}, 8, DType::f32, device);
  const Tensor y = linear(x, map);
  double first = 0, last = 0;
  for (int t = 0; t < 100; ++t) {
    Tape tape;
    const Tensor loss = mean(square(linear(x, trained.matrix) - y));
    last = loss.item();
    if (t == 0) first = last;
    trained.optimizer->step(tape.backward(loss));
  }
  EXPECT_TRUE(last <= 0.25 * first) << first << " became " << last;
}

#if VT_CUDA
/// Recorded after one step in the ordinary way, and replayed with other gradients and rates.
TEST_P(EveryOptimizer, TakesTheSameStepsFromAGraph) {
  const auto& [name, device] = GetParam();
  if (device.is_cpu()) return;  // graphs are of a GPU
  Trained ordinary(GetParam(), DType::f32), recorded(GetParam(), DType::f32);
  ordinary.run(ordinary.gradients(0));
  recorded.run(recorded.gradients(0));
  std::vector<std::pair<Parameter*, Tensor>> inputs = recorded.gradients(1);
  std::optional<Graph> graph;
  for (std::uint64_t t = 1; t < 4; ++t) {
    for (Optimizer* optimizer : {ordinary.optimizer.get(), recorded.optimizer.get()}) {
      optimizer->set_learning_rate(0.01 * static_cast<double>(t));
    }
    ordinary.run(ordinary.gradients(t));
    const auto latest = recorded.gradients(t);
    for (std::size_t i = 0; i < inputs.size(); ++i) copy_into(inputs[i].second, latest[i].second);
    recorded.optimizer->prepare_step();
    if (!graph) {
      graph.emplace(device, [&] {
        Tape tape;
        recorded.optimizer->set_gradients(gradients_of(tape, inputs));
        recorded.optimizer->run_step(1);
      });
    }
    graph->replay();
    EXPECT_EQ(ordinary.everything(), recorded.everything()) << t;
  }
}
#endif

TEST(OptimizerTable, RefusesAnUnknownName) {
  Parameter p(ones({2}));
  std::string names;
  for (const OptimizerRow& row : optimizer_table()) names += (names.empty() ? "" : ", ") + row.name;
  EXPECT_EQ(error_of([&] {
              make_optimizer("adam", {{.parameters = {{"p", &p}}}}, {});
            }),
            "make_optimizer: 'adam' is no optimiser, expected one of " + names);
}

TEST(OptimizerTable, RefusesOptionsThatARowHasNot) {
  Parameter p(ones({2}));
  const auto message = [&](const std::string& name, const std::map<std::string, std::string>& kwargs) {
    return error_of([&] { make_optimizer(name, {{.parameters = {{"p", &p}}}}, {.kwargs = kwargs}); });
  };
  EXPECT_EQ(message("lion", {{"nesterov", "true"}}), "make_optimizer: lion has no option 'nesterov', expected none");
  EXPECT_EQ(message("muon", {{"steps", "5"}}),
            "make_optimizer: muon has no option 'steps', expected nesterov, ns_steps, adjust_lr_fn");
  EXPECT_EQ(message("muon", {{"nesterov", "1"}}), "make_optimizer: nesterov is '1', expected one of false, true");
  EXPECT_EQ(message("muon", {{"ns_steps", "5.5"}}), "make_optimizer: ns_steps is '5.5', expected an integer");
  EXPECT_EQ(message("muon", {{"ns_steps", "0"}}), "muon: ns_steps is 0, expected 1 or more");
  EXPECT_EQ(message("muon", {{"adjust_lr_fn", "none"}}),
            "make_optimizer: adjust_lr_fn is 'none', expected one of match_rms_adamw, original");
  EXPECT_EQ(message("muon", {{"nesterov", "false"}, {"ns_steps", "3"}, {"adjust_lr_fn", "original"}}), "");
}

}  // namespace
}  // namespace vitrine
