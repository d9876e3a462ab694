// The hybrids of a ResNet and a ViT: published sizes, timm's numbers and initialisation.
#include "models/hybrid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/registry.h"
#include "tests/models/model_checks.h"
#include "tests/support/golden_model.h"

namespace vitrine {
namespace {

HybridConfig small_config() {
  return {.vit = {.image = 24, .patch = 8, .classes = 5, .dim = 16, .depth = 1, .heads = 2, .mlp_ratio = 2},
          .depths = {2, 1},
          .width = 8,
          .groups = 4};
}
HybridConfig stem_alone() {
  HybridConfig config = small_config();
  config.depths = {};
  return config;
}

// Parameters: timm's. Multiply-adds: of all convolutions and linear layers of timm's models,
// counted by forward hooks, with attention's two products. (timm's tables say 21.66, 67.43, 3.56,
// 19.58 and 0.44 * 10^9: they also count five for each number that a norm gives, and four for each
// weight that is standardised.)
TEST(Hybrid, HasThePublishedSizes) {
  struct Published {
    const char* name;
    std::int64_t parameters, macs;
  };
  for (const auto& [name, parameters, macs] :
       std::initializer_list<Published>{{"vit_base_r50_s16_224", 98659112, 21535358976},
                                        {"vit_base_r50_s16_384", 98950952, 67155787776},
                                        {"vit_small_r26_s32_224", 36431912, 3463851008},
                                        {"vit_small_r26_s32_384", 36468392, 10263625728},
                                        {"vit_large_r50_s32_224", 328994856, 19413295104},
                                        {"vit_large_r50_s32_384", 329092136, 57136144384},
                                        {"vit_tiny_r_s16_p8_224", 6337704, 433681920},
                                        {"vit_tiny_r_s16_p8_384", 6355944, 1326858240}}) {
    const ModelSummary summary = summarize_model(name);
    EXPECT_EQ(summary.parameters(), parameters) << name;
    EXPECT_EQ(summary.macs(), macs) << name;
  }
}

TEST(Hybrid, ASummaryCountsWhatTheModelHas) {
  for (const char* name : {"vit_tiny_r_s16_p8_224", "vit_small_r26_s32_224"}) {
    const Model model = create_model(name, {.num_classes = 3, .depth = 1});
    expect_summary_counts_all(model);
    EXPECT_EQ(model.pretrained_config().input_size, (std::array<std::int64_t, 3>{3, 224, 224}));
    const std::string first_conv = model.pretrained_config().first_conv + ".weight";
    EXPECT_TRUE(std::ranges::any_of(model.parameters(), [&](const auto& p) { return p.name == first_conv; })) << name;
  }
}

TEST(GoldenHybrid, InDouble) {
  const auto model = HybridVisionTransformer::make(small_config(), Initializer(1, DType::f64));
  compare_with_timm("hybrid_stages.safetensors", model, DType::f64, 1e-10);
}
TEST(GoldenHybrid, InFloat) {
  const auto model = HybridVisionTransformer::make(small_config(), Initializer(1));
  compare_with_timm("hybrid_stages.safetensors", model, DType::f32, 1e-5);
}
TEST(GoldenHybrid, AStemAloneInDouble) {
  const auto model = HybridVisionTransformer::make(stem_alone(), Initializer(1, DType::f64));
  compare_with_timm("hybrid_stem.safetensors", model, DType::f64, 1e-10);
}
TEST(GoldenHybrid, AStemAloneInFloat) {
  const auto model = HybridVisionTransformer::make(stem_alone(), Initializer(1));
  compare_with_timm("hybrid_stem.safetensors", model, DType::f32, 1e-5);
}

TEST(Hybrid, StartsAsTimmDraws) {
  const auto deviation = [](const Tensor& x) { return std::sqrt(mean(square(x)).item()); };
  HybridConfig config = small_config();
  config.width = 32;
  const auto model = HybridVisionTransformer::make(config, Initializer(1, DType::f64));
  const HybridBlock& block = model.backbone.stages[1].blocks[0];
  EXPECT_NEAR(deviation(block.conv2.weight), std::sqrt(2.0 / (9 * 64)), 0.03 * std::sqrt(2.0 / (9 * 64)));
  EXPECT_NEAR(deviation(block.downsample->conv.weight), std::sqrt(2.0 / 256), 0.03 * std::sqrt(2.0 / 256));
  EXPECT_EQ(amax(abs(block.norm3.weight)).item(), 0);
  EXPECT_EQ(amin(block.downsample->norm.weight).item(), 1);
  config.depths = {};
  const auto stem = HybridVisionTransformer::make(config, Initializer(1, DType::f64));
  EXPECT_NEAR(deviation(stem.backbone.conv.weight), 1 / std::sqrt(3 * 147.0), 0.03 / std::sqrt(3 * 147.0));
}

TEST(Hybrid, AViTIsTrainedBehindTheBackbone) {
  HybridConfig config = small_config();
  config.vit.drop_rate = 0.5;
  const auto model = HybridVisionTransformer::make(config, Initializer(1));
  Generator generator{.seed = 1};
  const Tensor images = ones({2, 3, 24, 24});
  EXPECT_EQ(model.forward_features(images).shape(), (Shape{2, 10, 16}));
  EXPECT_NE(model(images, {.training = true, .generator = &generator}).to_vector<float>(),
            model(images).to_vector<float>());
}

TEST(Hybrid, MixedPrecisionStandardisesInF32) {
  const auto model = HybridVisionTransformer::make(small_config(), Initializer(1));
  const Tensor images = cast_data(ones({1, 3, 24, 24}), DType::bf16);
  EXPECT_EQ(model(images).dtype(), DType::bf16);
}

TEST(Hybrid, MistakesAreErrors) {
  EXPECT_THROW(create_model("vit_base_r50_s16_224", {.patch_size = 2}), Error);
  EXPECT_THROW(create_model("vit_base_r50_s16_224", {.depths = PerStage({3, 4, 6})}), Error);
  EXPECT_EQ(error_of([] { create_model("vit_tiny_r_s16_p8_224", {.img_size = 208}); }),
            "hybrid: channels 3, image size 208: expected channels > 0 and a multiple of patch size 32");
  HybridConfig config = small_config();
  config.vit.patch = 4;
  EXPECT_EQ(error_of([&] { HybridVisionTransformer::make(config, Initializer(1)); }),
            "hybrid: patch size 4 is not a multiple of 8, the stride of the backbone");
  const auto model = HybridVisionTransformer::make(small_config(), Initializer(1));
  EXPECT_EQ(error_of([&] {
              model(ones({1, 3, 16, 16}));
            }),
            "hybrid: images have shape (1, 3, 16, 16), expected (B, 3, 24, 24)");
}

}  // namespace
}  // namespace vitrine
