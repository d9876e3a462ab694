// Ops on images and their gradients against PyTorch in float64 (tests/golden/README.md tells how the file was made).
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "ops/ops.h"
#include "tests/expectations.h"
#include "tests/source_dir.h"
#include "train/safetensors.h"

namespace vitrine {
namespace {

using Json = nlohmann::json;

struct Golden {
  std::vector<Tensor> x;  // inputs, in order
  Json options;           // PyTorch's
  RunningStatistics running;

  std::int64_t number(const char* key) const { return options.at(key).get<std::int64_t>(); }
  double real(const char* key) const { return options.at(key).get<double>(); }
};

using Op = std::function<Tensor(const Golden&)>;

const std::map<std::string, Op>& ops_by_name() {
  static const std::map<std::string, Op> ops{
      {"conv2d",
       [](const Golden& g) {
         const OptionalTensor bias = g.x.size() > 2 ? OptionalTensor(g.x[2]) : std::nullopt;
         return conv2d(g.x[0], g.x[1], bias, g.number("stride"), g.number("padding"), g.number("groups"));
       }},
      {"max_pool2d",
       [](const Golden& g) {
         return max_pool2d(g.x[0], g.number("kernel_size"), g.number("stride"), g.number("padding"));
       }},
      {"avg_pool2d",
       [](const Golden& g) {
         return avg_pool2d(g.x[0], g.number("kernel_size"), g.number("stride"), g.number("padding"));
       }},
      {"batch_norm",
       [](const Golden& g) {
         return batch_norm(g.x[0], g.x[1], g.x[2], g.running, g.options.at("training").get<bool>(), g.real("momentum"),
                           g.real("eps"));
       }},
      {"group_norm",
       [](const Golden& g) { return group_norm(g.x[0], g.number("num_groups"), g.x[1], g.x[2], g.real("eps")); }},
      {"standardize_weight", [](const Golden& g) { return standardize_weight(g.x[0], g.real("eps")); }},
      {"interpolate",
       [](const Golden& g) {
         const bool cubic = g.options.at("mode") == "bicubic";
         const auto size = g.options.at("size").get<std::vector<std::int64_t>>();
         return interpolate(g.x[0], size[0], size[1], cubic ? InterpolationMode::bicubic : InterpolationMode::bilinear,
                            g.options.at("antialias").get<bool>());
       }},
  };
  return ops;
}

TEST(GoldenImageOps, ValuesAndGradientsEqualPyTorch) {
  const SafetensorsReader file(source_dir() + "/tests/golden/image_ops.safetensors");
  std::map<std::string, int> cases_of;
  for (const auto& [name, options] : file.metadata()) {
    if (name == "torch") continue;  // the version
    SCOPED_TRACE(name);
    const std::string op = name.substr(0, name.find('.'));
    ASSERT_TRUE(ops_by_name().contains(op)) << "the file has an op that this test does not know";
    ++cases_of[op];

    Tape tape;
    Golden golden{.x = {}, .options = Json::parse(options), .running = {}};
    for (int i = 0; file.contains(name + ".x" + std::to_string(i)); ++i) {
      golden.x.push_back(tape.watch(file.read(name + ".x" + std::to_string(i))));
    }
    const Tensor c = arange(golden.x[0].size(1), DType::f64);
    golden.running = {c / 4 + 0.5, c / 2 + 1.0};

    const Tensor y = ops_by_name().at(op)(golden);
    EXPECT_TRUE(relative_error(y, file.read(name + ".y")) <= 1e-12);
    const Gradients gradients = tape.backward(y, file.read(name + ".dy"));
    for (std::size_t i = 0; i < golden.x.size(); ++i) {
      const double error = relative_error(gradients[golden.x[i]], file.read(name + ".g" + std::to_string(i)));
      EXPECT_TRUE(error <= 1e-12) << "input " << i << ": " << error;
    }
    if (op == "batch_norm") {
      EXPECT_TRUE(relative_error(golden.running.mean, file.read(name + ".mean")) <= 1e-12);
      EXPECT_TRUE(relative_error(golden.running.variance, file.read(name + ".var")) <= 1e-12);
    }
  }
  EXPECT_EQ(cases_of.size(), ops_by_name().size()) << "an op of this test has no case in the file";
}

}  // namespace
}  // namespace vitrine
