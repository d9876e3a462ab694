// RegNetY: widths from the paper's line, published sizes, the numbers of timm.
#include "models/regnet.h"

#include <gtest/gtest.h>

#include <cmath>

#include "models/registry.h"
#include "tests/models/model_checks.h"
#include "tests/support/golden_model.h"

namespace vitrine {
namespace {

RegNetConfig small_config(std::int64_t group_width) {
  return {.image = 33,
          .classes = 5,
          .depth = 5,
          .first_width = 8,
          .slope = 7,
          .multiplier = 1.7,
          .group_width = group_width,
          .stem_width = 10};
}

// ---- Sizes ----

// Parameters: timm's. Multiply-adds: of all convolutions and linear layers of timm's models at 224
// pixels, counted by forward hooks; torchvision's metadata say the same for those that it has:
// 0.402, 1.612, 3.176 and 15.912 * 10^9.
TEST(RegNet, HasThePublishedSizes) {
  struct Published {
    const char* name;
    std::int64_t parameters, macs;
  };
  for (const auto& [name, parameters, macs] :
       std::initializer_list<Published>{{"regnety_002", 3162996, 199514080},
                                        {"regnety_004", 4344144, 401842848},
                                        {"regnety_006", 6055160, 601220992},
                                        {"regnety_008", 6263168, 797176832},
                                        {"regnety_016", 11202430, 1612076160},
                                        {"regnety_032", 19436338, 3176482752},
                                        {"regnety_040", 20646656, 3973288448},
                                        {"regnety_064", 30583252, 6355204992},
                                        {"regnety_080", 39180068, 7963057312},
                                        {"regnety_120", 51822544, 12092376576},
                                        {"regnety_160", 83590140, 15911510272}}) {
    const ModelSummary summary = summarize_model(name);
    EXPECT_EQ(summary.parameters(), parameters) << name;
    EXPECT_EQ(summary.macs(), macs) << name;
  }
  EXPECT_EQ(list_models("regnety_*").size(), 11u);
}

TEST(RegNet, StagesFollowTheQuantisedLine) {
  using Stages = std::vector<RegNetStage>;
  EXPECT_EQ(regnet_stages({}), (Stages{{2, 224, 112}, {4, 448, 112}, {11, 1232, 112}, {1, 3024, 112}}));
  EXPECT_EQ(regnet_stages(small_config(3)), (Stages{{1, 9, 3}, {1, 15, 3}, {2, 24, 3}, {1, 39, 3}}));
  // 16 channels go into groups of 16, but 8 do not; 24 and 40 lie between two multiples, and take
  // the even one.
  EXPECT_EQ(regnet_stages(small_config(16)), (Stages{{1, 8, 8}, {1, 16, 16}, {2, 32, 16}, {1, 32, 16}}));
}

TEST(RegNet, ASummaryCountsWhatTheModelHas) {
  expect_summary_counts_all(create_model("regnety_002", {.num_classes = 3}));
}

// ---- timm's numbers (torchvision's are in tests/weights/test_weight_layouts.cpp) ----

void compare(DType dtype, double bound) {
  RegNetConfig config = small_config(3);
  config.channels = 1;
  compare_in_training("regnet_small.safetensors", RegNet::make(config, Initializer(1, dtype)), dtype, bound);
}

TEST(GoldenRegNet, InDouble) { compare(DType::f64, 1e-10); }
TEST(GoldenRegNet, InFloat) { compare(DType::f32, 1e-5); }

// ---- Details ----

TEST(RegNet, StartsAsTimmDraws) {
  const RegNet model = RegNet::make(small_config(3), Initializer(1));
  for (const auto& blocks : model.stages) {
    for (const RegNetBlock& block : blocks) EXPECT_EQ(amax(abs(block.conv3.bn.weight)).item(), 0);
  }
  EXPECT_EQ(amax(abs(*model.fc->bias)).item(), 0);

  Initializer init(1, DType::f64);
  const auto deviation = [](const Tensor& x) { return std::sqrt(mean(square(x)).item()); };
  const ConvNorm grouped = ConvNorm::make(96, 96, 3, init, 1, 4);  // fan_out 9 * 24
  EXPECT_NEAR(deviation(grouped.conv.weight), std::sqrt(2.0 / 216), 0.03 * std::sqrt(2.0 / 216));
  const SqueezeExcitation squeeze = SqueezeExcitation::make(200, 50, init);
  EXPECT_NEAR(deviation(squeeze.fc1.weight), std::sqrt(2.0 / 50), 0.03 * std::sqrt(2.0 / 50));
  EXPECT_NEAR(deviation(squeeze.fc2.weight), std::sqrt(2.0 / 200), 0.03 * std::sqrt(2.0 / 200));
  EXPECT_EQ(amax(abs(*squeeze.fc1.bias)).item(), 0);
  const RegNet wide = RegNet::make({.depth = 1, .slope = 0}, Initializer(1, DType::f64));
  EXPECT_NEAR(deviation(wide.fc->weight), 0.01, 0.0003);
}

TEST(RegNet, TakesImagesOfAnySize) {
  const Model model = create_model("regnety_002", {.num_classes = 3, .img_size = 64});
  EXPECT_EQ(model(ones({1, 3, 40, 56})).shape(), (Shape{1, 3}));
}

TEST(RegNet, MistakesAreErrors) {
  EXPECT_THROW(create_model("regnety_002", {.patch_size = 4}), Error);
  EXPECT_THROW(create_model("regnety_002", {.depths = PerStage({1, 1, 1, 1})}), Error);
  EXPECT_THROW(create_model("regnety_002", {.drop_path_rate = 0.1}), Error);
  EXPECT_THROW(create_model("regnety_002")(ones({1, 4, 8, 8})), Error);
  RegNetConfig config = small_config(3);
  config.first_width = 12;
  EXPECT_EQ(
      error_of([&] { RegNet::make(config, Initializer(1)); }),
      "regnet: first_width 12, slope 7, multiplier 1.7: expected a multiple of 8 above 0, slope >= 0, multiplier > 1");
  config = small_config(3);
  config.squeeze_ratio = 0.01;
  EXPECT_EQ(error_of([&] { RegNet::make(config, Initializer(1)); }),
            "SqueezeExcitation: 9 channels are squeezed to 0, expected both above 0");
}

}  // namespace
}  // namespace vitrine
