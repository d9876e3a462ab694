// Swin: what toy implementations get wrong (relative positions, the mask of shifted windows, the
// order of merging), published sizes, and timm's numbers.
#include <gtest/gtest.h>

#include <cmath>

#include "models/registry.h"
#include "models/swin.h"
#include "ops/ops.h"
#include "tests/models/model_checks.h"
#include "tests/support/expectations.h"
#include "tests/support/golden_model.h"

namespace vitrine {
namespace {

Tensor random_images(const Shape& shape, DType dtype = DType::f32) {
  Tensor x = empty(shape, dtype);
  fill_normal(x, 0, 1, {5, Purpose::test, 1});
  return x;
}

SwinConfig small_config() {
  return {
      .image = 16, .patch = 2, .classes = 5, .dim = 8, .depths = {2, 2}, .heads = {1, 2}, .window = 4, .mlp_ratio = 2};
}

// ---- Sizes, from the paper and timm ----

TEST(Swin, HasThePublishedSizes) {
  for (const auto& [name, parameters, gmacs] :
       std::initializer_list<Published>{{"swin_tiny_patch4_window7_224", 28288354, 4.49},
                                        {"swin_small_patch4_window7_224", 49606258, 8.74},
                                        {"swin_base_patch4_window7_224", 87768224, 15.43},
                                        {"swin_base_patch4_window12_384", 87903584, 47.08},
                                        {"swin_large_patch4_window7_224", 196532476, 34.48},
                                        {"swin_large_patch4_window12_384", 196735516, 103.92}}) {
    expect_published_size(name, parameters, gmacs, 2);
  }
  EXPECT_EQ(summarize_model("swin_tiny_patch4_window7_224", {.num_classes = 21841}).parameters(), 44315083);
  EXPECT_EQ(summarize_model("swin_tiny_patch2_window4_32").parameters(), 27505108);
  EXPECT_EQ(summarize_model("swin_tiny_patch2_window4_32", {.num_classes = 100}).parameters(), 27574318);
  EXPECT_EQ(std::llround(static_cast<double>(summarize_model("swin_tiny_patch2_window4_32").macs()) * 1e-6), 358);
}

TEST(Swin, ASummaryCountsWhatTheModelHas) {
  for (const char* position : {"none", "absolute", "relative", "both"}) {
    const Model model =
        create_model("swin_tiny_patch2_window4_32",
                     {.embed_dim = 8, .depths = PerStage({1, 2}), .num_heads = PerStage({1, 2}), .position = position});
    expect_summary_counts_all(model);
  }
}

// ---- Details ----

TEST(Swin, RelativePositionsAreQueryMinusKey) {
  const std::vector<std::int64_t> two{4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4};
  EXPECT_EQ(relative_position_index(2).to_vector<std::int64_t>(), two);
  const auto seven = relative_position_index(7).to_vector<std::int64_t>();
  const auto at = [&](std::size_t i, std::size_t j) { return seven[i * 49 + j]; };
  EXPECT_EQ(at(0, 0), 84);
  EXPECT_EQ(at(0, 1), 83);
  EXPECT_EQ(at(1, 0), 85);
  EXPECT_EQ(at(0, 7), 71);
  EXPECT_EQ(at(7, 0), 97);
  EXPECT_EQ(at(0, 48), 0);
  EXPECT_EQ(at(48, 0), 168);
}

TEST(Swin, TheMaskHidesWhatTheShiftBroughtTogether) {
  const auto hidden_pairs = [](std::int64_t side, std::int64_t window, std::int64_t shift) {
    const Tensor mask = shifted_window_mask(side, window, shift);
    std::vector<std::int64_t> counts(static_cast<std::size_t>(mask.size(0)));
    const auto values = mask.to_vector<float>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_TRUE(values[i] == 0 || values[i] == -100);
      if (values[i] != 0) ++counts[i / static_cast<std::size_t>(mask.size(1) * mask.size(2))];
    }
    return counts;
  };
  EXPECT_EQ(hidden_pairs(8, 4, 2), (std::vector<std::int64_t>{0, 128, 128, 192}));
  EXPECT_EQ(hidden_pairs(14, 7, 3), (std::vector<std::int64_t>{0, 1176, 1176, 1776}));
  std::int64_t total = 0;
  for (const std::int64_t count : hidden_pairs(56, 7, 3)) total += count;
  EXPECT_EQ(total, 18240);
}

TEST(Swin, EveryOtherBlockIsShiftedWhereTheMapIsLargerThanAWindow) {
  const SwinTransformer model = SwinTransformer::make({.depths = {2, 2, 6, 2}}, Initializer::shapes_only());
  for (std::size_t stage = 0; stage < 4; ++stage) {
    for (std::size_t i = 0; i < model.layers[stage].blocks.size(); ++i) {
      const SwinBlock& block = model.layers[stage].blocks[i];
      EXPECT_EQ(block.shift, i % 2 == 1 && stage < 3 ? 3 : 0) << stage << " " << i;  // the last map is one window of 7
      EXPECT_EQ(block.mask.defined(), block.shift > 0);
      EXPECT_EQ(block.attn.window, 7);
    }
  }
  SwinConfig config = small_config();
  config.shift = false;
  for (const SwinStage& stage : SwinTransformer::make(config, Initializer(1)).layers) {
    for (const SwinBlock& block : stage.blocks) EXPECT_EQ(block.shift, 0);
  }
}

TEST(Swin, AMapSmallerThanAWindowIsOneWindow) {
  const SwinTransformer model =
      SwinTransformer::make({.image = 32, .patch = 2, .classes = 10, .window = 4}, Initializer::shapes_only());
  EXPECT_EQ(model.layers[3].blocks[0].attn.window, 2);
  EXPECT_EQ(model.layers[3].blocks[0].attn.relative_position_bias_table->shape(), (Shape{9, 24}));
}

// Column parity is the slow one: (0, 0), (1, 0), (0, 1), (1, 1), as (row, column).
TEST(Swin, MergingJoinsNeighboursInTheReleasedOrder) {
  Initializer init(1, DType::f64);
  PatchMerging merging = PatchMerging::make(small_config(), 1, init);
  merging.reduction.weight = Parameter(zeros({2, 4}, DType::f64));
  for (const std::int64_t which : {0, 1, 2, 3}) {
    Tensor weight = zeros({2, 4}, DType::f64);
    weight.data<double>()[which] = 1;
    merging.reduction.weight = Parameter(weight);
    const Tensor x = from_values<double>({1, 2, 3, 5}, {1, 2, 2, 1});  // rows (1, 2) and (3, 5)
    const std::vector<double> neighbours{1, 3, 2, 5};
    const Tensor norm = merging.norm(from_vector(neighbours, {1, 1, 1, 4}));
    EXPECT_EQ(merging(x).to_vector<double>()[0], norm.to_vector<double>()[static_cast<std::size_t>(which)]) << which;
  }
}

TEST(Swin, DropPathGrowsOverAllStages) {
  const SwinTransformer model =
      SwinTransformer::make({.depths = {2, 2, 6, 2}, .drop_path_rate = 0.22}, Initializer::shapes_only());
  EXPECT_EQ(model.layers[0].blocks[0].drop_path.rate, 0);
  EXPECT_NEAR(model.layers[1].blocks[0].drop_path.rate, 0.04, 1e-12);
  EXPECT_NEAR(model.layers[3].blocks[1].drop_path.rate, 0.22, 1e-12);
}

// ---- The whole ----

TEST(Swin, EveryFormGivesLogitsAndAGradientToEveryParameter) {
  for (const SwinPosition position :
       {SwinPosition::none, SwinPosition::absolute, SwinPosition::relative, SwinPosition::both}) {
    for (const std::int64_t image : {16, 18}) {
      SwinConfig config = small_config();
      config.position = position;
      config.image = image;
      SwinTransformer model = SwinTransformer::make(config, Initializer(3));
      Generator generator{.seed = 1};
      Tape tape;
      const Tensor logits = model(random_images({2, 3, image, image}), {.training = true, .generator = &generator});
      EXPECT_EQ(logits.shape(), (Shape{2, 5}));
      const Gradients gradients = tape.backward(sum(square(logits)));
      for_each_parameter(model, [&](const std::string& name, const Parameter& p) {
        ASSERT_TRUE(gradients[p].defined()) << name;
        EXPECT_TRUE(amax(abs(gradients[p])).item() > 0) << name;
      });
    }
  }
}

TEST(Swin, MistakesAreErrors) {
  EXPECT_THROW(create_model("swin_tiny_patch4_window7_224", {.depth = 3}), Error);
  EXPECT_THROW(create_model("swin_tiny_patch4_window7_224", {.depths = PerStage({2, 2})}), Error);
  EXPECT_THROW(create_model("swin_tiny_patch4_window7_224", {.position = "left"}), Error);
  EXPECT_THROW(create_model("vit_tiny_patch4_32", {.window_size = 7}), Error);
}

TEST(GoldenSwin, InDouble) {
  const SwinTransformer model = SwinTransformer::make(small_config(), Initializer(1, DType::f64));
  compare_with_timm("swin_small.safetensors", model, DType::f64, 1e-10);
}
TEST(GoldenSwin, InFloat) {
  compare_with_timm("swin_small.safetensors", SwinTransformer::make(small_config(), Initializer(1)), DType::f32, 1e-5);
}

SwinConfig odd_config() {
  SwinConfig config = small_config();
  config.image = 26;
  config.window = 3;
  return config;
}
TEST(GoldenSwin, PaddedMapsAndOddSidesInDouble) {
  const SwinTransformer model = SwinTransformer::make(odd_config(), Initializer(1, DType::f64));
  compare_with_timm("swin_odd.safetensors", model, DType::f64, 1e-10);
}
TEST(GoldenSwin, PaddedMapsAndOddSidesInFloat) {
  compare_with_timm("swin_odd.safetensors", SwinTransformer::make(odd_config(), Initializer(1)), DType::f32, 1e-5);
}

}  // namespace
}  // namespace vitrine
