// CvT: published sizes, transformers' numbers, and what its convolutions change beside a ViT.
#include "models/cvt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/catalog.h"
#include "models/family/parameter_depth.h"
#include "tests/models/model_checks.h"
#include "tests/support/golden_model.h"

namespace vitrine {
namespace {

/// That of tests/golden/make_cvt.py.
CvTConfig small_config() {
  return {.image = 24,
          .classes = 5,
          .depths = {1, 2, 3},
          .heads = {1, 2, 3},
          .dim = 4,
          .mlp_ratio = 2,
          .drop_path_rate = 0};
}

Tensor random_images(const Shape& shape) {
  Tensor x = empty(shape);
  fill_normal(x, 0, 1, {5, Purpose::test, 1});
  return x;
}

// ---- Sizes ----

// Parameters: transformers' CvtForImageClassification. Multiply-adds: those of its convolutions,
// linear layers and attention, counted by PyTorch's FlopCounterMode. (The authors' README rounds to
// 4.5, 7.1, 16.3, 24.9 and 193.2 * 10^9.)
TEST(CvT, HasThePublishedSizes) {
  struct Published {
    const char* name;
    std::int64_t parameters, macs;
  };
  for (const auto& [name, parameters, macs] : std::initializer_list<Published>{{"cvt_13_224", 19997480, 4566089216},
                                                                               {"cvt_21_224", 31622696, 7177985024},
                                                                               {"cvt_13_384", 19997480, 16269359616},
                                                                               {"cvt_21_384", 31622696, 24849091584},
                                                                               {"cvt_w24_384", 277196392, 194221654016},
                                                                               {"cvt_13_32", 19608650, 349035776}}) {
    const ModelSummary summary = summarize_model(name);
    EXPECT_EQ(summary.parameters(), parameters) << name;
    EXPECT_EQ(summary.macs(), macs) << name;
  }
  EXPECT_EQ(list_models("cvt_*").size(), 6u);
}

TEST(CvT, ASummaryCountsWhatTheModelHas) {
  for (const ModelOptions& options :
       {ModelOptions{.embed_dim = 8}, ModelOptions{.num_classes = 0, .embed_dim = 8, .depths = PerStage({1, 1})}}) {
    ModelOptions with_heads = options;
    if (options.depths) with_heads.num_heads = PerStage({2, 3});
    expect_summary_counts_all(create_model("cvt_13_32", with_heads));
  }
}

// ---- transformers' numbers (under its own names in tests/weights/test_weight_layouts.cpp) ----

void compare(DType dtype, double bound) {
  compare_in_training("cvt_small.safetensors",
                      ConvolutionalVisionTransformer::make(small_config(), Initializer(1, dtype)), dtype, bound);
}

TEST(GoldenCvT, InDouble) { compare(DType::f64, 1e-10); }
TEST(GoldenCvT, InFloat) { compare(DType::f32, 1e-5); }

// ---- Details ----

TEST(CvT, StartsAsTheAuthorsDraw) {
  CvTConfig config = small_config();
  config.dim = 32;
  const auto model = ConvolutionalVisionTransformer::make(config, Initializer(1, DType::f64));
  const auto deviation = [](const Tensor& x) { return std::sqrt(mean(square(x)).item()); };
  const CvTBlock& block = model.stages[2].blocks[0];
  EXPECT_NEAR(deviation(block.attn.proj_k.weight), 0.02, 0.0006);
  EXPECT_NEAR(deviation(block.mlp.fc1.weight), 0.02, 0.0006);
  EXPECT_NEAR(deviation(*model.stages[2].cls_token), 0.02, 0.004);
  EXPECT_EQ(amax(abs(*model.head->bias)).item(), 0);
  // Uniform between -1/sqrt(fan_in) and 1/sqrt(fan_in), with a fan_in of 9 and of 9 * 64.
  EXPECT_NEAR(deviation(block.attn.conv_proj_q.conv.weight), 1 / std::sqrt(3.0 * 9), 0.01);
  EXPECT_NEAR(deviation(model.stages[2].patch_embed.proj.weight), 1 / std::sqrt(3.0 * 9 * 64), 0.001);
  EXPECT_FALSE(block.attn.conv_proj_q.conv.bias);
}

TEST(CvT, DropPathGrowsWithinTheLastStageAlone) {
  const auto model = ConvolutionalVisionTransformer::make({}, Initializer::shapes_only());
  for (const CvTStage& stage : {model.stages[0], model.stages[1]}) {
    for (const CvTBlock& block : stage.blocks) EXPECT_EQ(block.drop_path.rate, 0);
  }
  const auto& last = model.stages[2].blocks;
  EXPECT_EQ(last.front().drop_path.rate, 0);
  EXPECT_DOUBLE_EQ(last[3].drop_path.rate, 0.1 * 3 / 9);
  EXPECT_DOUBLE_EQ(last.back().drop_path.rate, 0.1);
  EXPECT_FALSE(model.stages[0].cls_token || model.stages[1].cls_token);
}

TEST(CvT, TakesImagesOfAnySize) {
  const Model model = create_model("cvt_13_32", {.num_classes = 3, .embed_dim = 4});
  EXPECT_TRUE(model.info().takes_any_size);
  EXPECT_EQ(model(random_images({2, 3, 32, 32})).shape(), (Shape{2, 3}));
  EXPECT_EQ(model(random_images({1, 3, 27, 50})).shape(), (Shape{1, 3}));
}

// There are no position embeddings, but padding and overlap tell where something is: a ViT without
// them would not see that patches have changed places.
TEST(CvT, SeesWhereTokensLie) {
  const Model model = create_model("cvt_13_32", {.num_classes = 3, .embed_dim = 4});
  const Tensor images = random_images({1, 3, 32, 32});
  EXPECT_GT(relative_error(model(roll(images, {8}, {3})), model(images)), 1e-3);
}

TEST(CvT, RecomputingMovesRunningStatisticsOnce) {
  const auto statistics_after = [](bool recompute) {
    const Model model = create_model("cvt_13_32", {.num_classes = 3, .embed_dim = 4, .drop_path_rate = 0});
    Tape tape;
    const Tensor logits = model(random_images({2, 3, 32, 32}), {.training = true, .recompute = recompute});
    tape.backward(cross_entropy(logits, from_vector(std::vector<std::int64_t>{0, 2}, {2})));
    const StateDict state = model.state_dict();
    const auto found =
        std::ranges::find(state, "stage1.blocks.0.attn.conv_proj_v.bn.running_mean", &StateDict::value_type::first);
    return found->second.to_vector<float>();
  };
  EXPECT_EQ(statistics_after(true), statistics_after(false));
}

TEST(CvT, ParametersKnowTheirDepth) {
  const Model model = create_model("cvt_13_32", {.embed_dim = 4, .depths = PerStage({1, 2, 2})});
  std::vector<std::string> names;
  for (const NamedParameter& parameter : model.parameters()) names.push_back(parameter.name);
  const std::vector<int> depths = parameter_depths(names, model.info().layers);
  const auto depth_of = [&](const std::string& name) {
    const auto found = std::ranges::find(names, name);
    return found == names.end() ? -1 : depths[static_cast<std::size_t>(found - names.begin())];
  };
  EXPECT_EQ(depth_of("stage0.patch_embed.proj.weight"), 0);
  EXPECT_EQ(depth_of("stage0.blocks.0.attn.conv_proj_q.conv.weight"), 1);
  EXPECT_EQ(depth_of("stage1.patch_embed.norm.bias"), 2);
  EXPECT_EQ(depth_of("stage1.blocks.1.mlp.fc2.bias"), 3);
  EXPECT_EQ(depth_of("stage2.cls_token"), 4);
  EXPECT_EQ(depth_of("stage2.patch_embed.proj.weight"), 4);
  EXPECT_EQ(depth_of("norm.weight"), 5);
  EXPECT_EQ(depth_of("head.weight"), 6);
}

TEST(CvT, IsPreparedForAsItsAuthorsDo) {
  const Model model = create_model("cvt_13_224", {.num_classes = 1, .embed_dim = 4});
  const PretrainedConfig& images = model.pretrained_config();
  EXPECT_EQ(images.crop_pct, 0.875);
  EXPECT_EQ(images.mean[0], 0.485);
  EXPECT_EQ(images.interpolation, "bicubic");
  EXPECT_EQ(catalog().at("cvt_21_384").pretrained.crop_pct, 1.0);
  EXPECT_EQ(model.info().no_decay, std::vector<std::string>{"cls_token"});
  for (const std::string& layer : {images.first_conv, images.classifier.at(0)}) {
    EXPECT_TRUE(std::ranges::any_of(model.parameters(), [&](const auto& p) { return p.name == layer + ".weight"; }));
  }
}

TEST(CvT, MistakesAreErrors) {
  for (const ModelOptions& options :
       {ModelOptions{.patch_size = 4}, ModelOptions{.depth = 3}, ModelOptions{.window_size = 7},
        ModelOptions{.class_token = false}, ModelOptions{.norm_eps = 1e-6}, ModelOptions{.depths = PerStage({1, 2})},
        ModelOptions{.depths = PerStage({1, 0, 2})}, ModelOptions{.num_heads = 3}, ModelOptions{.drop_rate = 1.0}}) {
    EXPECT_THROW(create_model("cvt_13_32", options), Error);
  }
  EXPECT_EQ(error_of([] {
              create_model("cvt_13_32", {.embed_dim = 7, .num_heads = PerStage({2, 4, 8})});
            }),
            "cvt: dim 7 is not a multiple of 2, the heads of the first stage");
  EXPECT_EQ(error_of([] {
              create_model("cvt_13_32", {.embed_dim = 4})(ones({1, 4, 32, 32}));
            }),
            "cvt: images have shape (1, 4, 32, 32), expected (B, 3, H, W)");
}

}  // namespace
}  // namespace vitrine
