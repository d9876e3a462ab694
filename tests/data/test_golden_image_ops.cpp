// Ops on images and their gradients against PyTorch in float64 (tests/golden/README.md tells how
// the file was made).
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "ops/ops.h"
#include "tests/support/golden_cases.h"

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
  const auto check = [](const SafetensorsReader& file, const std::string& name, const Op& op,
                        const std::string& options) {
    Tape tape;
    Golden golden{.x = golden_inputs(file, name, tape), .options = Json::parse(options), .running = {}};
    const Tensor c = arange(golden.x[0].size(1), DType::f64);
    golden.running = {c / 4 + 0.5, c / 2 + 1.0};
    expect_golden(file, name, tape, golden.x, op(golden), 1e-12);
    if (name.starts_with("batch_norm.")) {
      EXPECT_TRUE(relative_error(golden.running.mean, file.read(name + ".mean")) <= 1e-12);
      EXPECT_TRUE(relative_error(golden.running.variance, file.read(name + ".var")) <= 1e-12);
    }
  };
  for_each_golden_case({"image_ops.safetensors"}, ops_by_name(), check);
}

}  // namespace
}  // namespace vitrine
