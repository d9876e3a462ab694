// Lion and Muon against timm: runs of tests/golden/optimizers.safetensors, step by step.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>

#include "optim/lion.h"
#include "optim/muon.h"
#include "tests/optim/optimizer_steps.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"

namespace vitrine {
namespace {

/// A run of the file: its parameters as they were before the first step.
class GoldenRun {
 public:
  GoldenRun(const std::string& name, Device device) : device_(device) {
    for (const auto& [key, tensor] : read_safetensors(source_dir() + "/tests/golden/optimizers.safetensors")) {
      if (key.starts_with(name + ".")) file_[key.substr(name.size() + 1)] = tensor;
    }
    for (const auto& [key, tensor] : file_) {
      if (!key.starts_with("param.")) continue;
      parameters_.emplace_back(here(key, 0));
      named_.push_back({key.substr(6), &parameters_.back()});
    }
  }

  /// As make_optimizers.py has them.
  std::vector<ParameterGroup> groups() const {
    ParameterGroup decayed{.parameters = {}, .weight_decay = 0.05}, exempt;
    for (const NamedParameter& p : named_) (p.name.starts_with("weight") ? decayed : exempt).parameters.push_back(p);
    return {decayed, exempt};
  }

  /// The largest relative error of a parameter after a step.
  double replay(Optimizer& optimizer) {
    const auto lr = file_.at("lr").to_vector<double>();
    double worst = 0;
    for (std::size_t t = 0; t < lr.size(); ++t) {
      optimizer.set_learning_rate(lr[t]);
      std::vector<std::pair<Parameter*, Tensor>> gradients;
      for (const auto& [name, parameter] : named_) {
        gradients.emplace_back(parameter, here("grad." + name, static_cast<std::int64_t>(t)));
      }
      step_with(optimizer, gradients);
      for (const auto& [name, parameter] : named_) {
        const double error =
            relative_error(parameter->value(), select(file_.at("param." + name), 0, static_cast<std::int64_t>(t) + 1));
        worst = std::max(worst, error);
      }
    }
    return worst;
  }

  /// The largest relative error of the state in the end. timm's name for it by ours.
  double state_error(const Optimizer& optimizer, const std::map<std::string, std::string>& names) const {
    double worst = 0;
    std::size_t compared = 0;
    for (const auto& [key, tensor] : optimizer.state().tensors) {
      const std::size_t dot = key.find('.');
      const std::string stored = "state." + key.substr(dot + 1) + "." + names.at(key.substr(0, dot));
      const double error = relative_error(tensor, file_.at(stored));
      worst = std::max(worst, error);
      ++compared;
    }
    const auto in_file =
        std::ranges::count_if(file_, [](const auto& item) { return item.first.starts_with("state."); });
    EXPECT_EQ(static_cast<std::ptrdiff_t>(compared), in_file) << "no state more, none less";
    return worst;
  }

 private:
  Tensor here(const std::string& key, std::int64_t t) const {
    return to_device(clone(select(file_.at(key), 0, t)), device_);
  }

  Device device_;
  std::map<std::string, Tensor> file_;
  std::deque<Parameter> parameters_;
  std::vector<NamedParameter> named_;
};

class OptimGolden : public testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (GetParam().is_cuda() && cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  }
};

#if VT_CUDA
const auto devices = testing::Values(cpu, cuda());
#else
const auto devices = testing::Values(cpu);
#endif
INSTANTIATE_TEST_SUITE_P(Each, OptimGolden, devices,
                         [](const auto& test) { return test.param.is_cuda() ? "Cuda" : "Cpu"; });

TEST_P(OptimGolden, LionEqualsTimm) {
  GoldenRun run("lion", GetParam());
  Lion optimizer(run.groups(), {.beta1 = 0.9, .beta2 = 0.98});
  const double error = run.replay(optimizer);
  EXPECT_TRUE(error <= 1e-12) << error;
  const double state_error = run.state_error(optimizer, {{"momentum", "exp_avg"}});
  EXPECT_TRUE(state_error <= 1e-12) << state_error;
}

// ---- Muon ----

MuonOptions muon_options(bool nesterov, MuonOptions::AdjustLr adjust) {
  return {.nesterov = nesterov, .adjust_lr_fn = adjust, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-7};
}

const std::map<std::string, std::string> state_names = {
    {"momentum", "momentum_buffer"}, {"first_moment", "exp_avg"}, {"second_moment", "exp_avg_sq"}};

/// Matrices wide, tall and of a convolution by Muon, a narrow one and a bias by AdamW.
TEST_P(OptimGolden, MuonEqualsTimm) {
  GoldenRun run("muon_original", GetParam());
  Muon optimizer(run.groups(), muon_options(false, MuonOptions::AdjustLr::original));
  const double error = run.replay(optimizer);
  EXPECT_TRUE(error <= 1e-12) << error;
  const double state_error = run.state_error(optimizer, state_names);
  EXPECT_TRUE(state_error <= 1e-12) << state_error;
}

TEST_P(OptimGolden, MuonWithNesterovsMomentumEqualsTimm) {
  GoldenRun run("muon_nesterov", GetParam());
  Muon optimizer(run.groups(), muon_options(true, MuonOptions::AdjustLr::match_rms_adamw));
  const double error = run.replay(optimizer);
  EXPECT_TRUE(error <= 1e-12) << error;
  const double state_error = run.state_error(optimizer, state_names);
  EXPECT_TRUE(state_error <= 1e-12) << state_error;
}

/// Both round to bf16, in another order.
TEST_P(OptimGolden, MuonInBf16StaysCloseToTimm) {
  GoldenRun run("muon_bf16", GetParam());
  Muon optimizer(run.groups(), muon_options(true, MuonOptions::AdjustLr::match_rms_adamw));
  const double error = run.replay(optimizer);
  EXPECT_TRUE(error <= 5e-4) << error;
  const double state_error = run.state_error(optimizer, state_names);
  EXPECT_TRUE(state_error <= 1e-6) << state_error;
}

}  // namespace
}  // namespace vitrine
