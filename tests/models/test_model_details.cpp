// Details of the published models that their copies get wrong: how weights start, what is drawn in
// training, which weights do not decay, what images they want.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "models/deit.h"
#include "models/registry.h"
#include "models/swin.h"
#include "models/vit.h"
#include "ops/ops.h"
#include "tests/models/model_checks.h"

namespace vitrine {
namespace {

/// Of a distribution around 0.
double deviation(const Parameter& p) { return std::sqrt(mean(square(p.value())).item()); }
double largest(const Parameter& p) { return amax(abs(p.value())).item(); }

// ---- How weights start ----

TEST(ViT, StartsAsTimmDoes) {
  const VisionTransformer model = VisionTransformer::make({.image = 32, .patch = 4, .depth = 1}, Initializer(1));
  EXPECT_TRUE(std::abs(deviation(model.blocks[0].attn.qkv.weight) - 0.02) < 3e-4);
  EXPECT_TRUE(std::abs(deviation(model.blocks[0].mlp.fc1.weight) - 0.02) < 3e-4);
  EXPECT_TRUE(std::abs(deviation(model.head->weight) - 0.02) < 3e-4);
  EXPECT_TRUE(std::abs(deviation(model.pos_embed) - 0.02) < 1e-3);
  EXPECT_TRUE(deviation(*model.cls_token) < 2e-6 && deviation(*model.cls_token) > 0);
  const double bound =
      1 / std::sqrt(48.0);  // of the uniform distribution of PyTorch's convolutions, for 4 x 4 x 3 inputs
  EXPECT_TRUE(std::abs(deviation(model.patch_embed.proj.weight) - bound / std::sqrt(3.0)) < 2e-3);
  EXPECT_TRUE(largest(model.patch_embed.proj.bias) <= bound && largest(model.patch_embed.proj.bias) > 0.9 * bound);
  EXPECT_EQ(deviation(*model.head->bias), 0);
  EXPECT_EQ(deviation(*model.blocks[0].attn.qkv.bias), 0);
  EXPECT_EQ(model.blocks[0].norm1.epsilon, 1e-6);
}

TEST(ViT, StartsAsInThePapersCodeIfAsked) {
  const VisionTransformer model = VisionTransformer::make(
      {.image = 32, .patch = 4, .depth = 1, .representation_size = 256, .weight_init = "jax"}, Initializer(1));
  const TransformerBlock& block = model.blocks[0];
  const auto is_uniform = [](const Parameter& p, double bound) {
    return largest(p) <= bound && largest(p) > 0.999 * bound &&
           std::abs(deviation(p) / bound - std::sqrt(1 / 3.0)) < 0.01;
  };
  EXPECT_TRUE(is_uniform(block.attn.qkv.weight, std::sqrt(6 / (192.0 + 192))));  // q, k and v are layers of their own
  EXPECT_TRUE(is_uniform(block.attn.proj.weight, std::sqrt(6 / (192.0 + 192))));
  EXPECT_TRUE(is_uniform(block.mlp.fc1.weight, std::sqrt(6 / (192.0 + 768))));
  EXPECT_EQ(largest(*block.attn.qkv.bias), 0);
  EXPECT_TRUE(deviation(*block.mlp.fc1.bias) < 2e-6 && deviation(*block.mlp.fc1.bias) > 0);
  EXPECT_TRUE(deviation(*block.mlp.fc2.bias) < 2e-6 && deviation(*block.mlp.fc2.bias) > 0);
  for (const auto& [weight, fan_in] :
       {std::pair{&model.patch_embed.proj.weight, 48.0}, std::pair{&model.pre_logits->fc.weight, 192.0}}) {
    EXPECT_TRUE(std::abs(deviation(*weight) * std::sqrt(fan_in) - 1) < 0.02);
    EXPECT_TRUE(largest(*weight) * std::sqrt(fan_in) < 2 / 0.8796);  // cut off, unlike a normal of thousands
  }
  EXPECT_EQ(largest(model.patch_embed.proj.bias), 0);
  EXPECT_EQ(largest(*model.cls_token), 0);
  EXPECT_TRUE(std::abs(deviation(model.pos_embed) - 0.02) < 1e-3);
  EXPECT_EQ(largest(model.head->weight), 0);
  EXPECT_THROW(create_model("vit_tiny_patch4_32", {.weight_init = "torch"}), Error);
  EXPECT_THROW(create_model("swin_tiny_patch2_window4_32", {.weight_init = "jax"}), Error);
  EXPECT_THROW(create_model("deit_tiny_distilled_patch4_32", {.weight_init = "jax"}), Error);
}

TEST(DeiT, StartsAsTimmDoes) {
  const auto model = DistilledVisionTransformer::make({.vit = {.image = 32, .patch = 4, .depth = 1}}, Initializer(1));
  EXPECT_TRUE(std::abs(deviation(model.dist_token) - 0.02) < 4e-3);
  EXPECT_TRUE(deviation(*model.vit.cls_token) < 2e-6 && deviation(*model.vit.cls_token) > 0);
  EXPECT_TRUE(std::abs(deviation(model.vit.pos_embed) - 0.02) < 1e-3);
  EXPECT_TRUE(std::abs(deviation(model.vit.head->weight) - 0.02) < 3e-4);
  EXPECT_TRUE(std::abs(deviation(model.head_dist->weight) - 0.02) < 3e-4);
  EXPECT_NE(model.vit.head->weight.value().to_vector<float>(), model.head_dist->weight.value().to_vector<float>());
  EXPECT_EQ(largest(*model.head_dist->bias), 0);
}

TEST(Swin, StartsAsTimmDoes) {
  const SwinTransformer model = SwinTransformer::make(
      {.image = 56, .depths = {1, 1}, .heads = {3, 6}, .position = SwinPosition::both}, Initializer(1));
  const SwinBlock& block = model.layers[0].blocks[0];
  for (const Parameter* weight :
       {&block.attn.qkv.weight, &block.attn.proj.weight, &block.mlp.fc1.weight, &block.mlp.fc2.weight,
        &model.layers[1].downsample->reduction.weight, &model.head->fc.weight}) {
    EXPECT_TRUE(std::abs(deviation(*weight) - 0.02) < 4e-4);
  }
  for (const auto& bias : {block.attn.qkv.bias, block.attn.proj.bias, block.mlp.fc1.bias, model.head->fc.bias}) {
    EXPECT_EQ(largest(*bias), 0);
  }
  EXPECT_TRUE(std::abs(deviation(*block.attn.relative_position_bias_table) - 0.02) < 2e-3);
  EXPECT_TRUE(std::abs(deviation(*model.absolute_pos_embed) - 0.02) < 4e-4);
  const double bound = 1 / std::sqrt(48.0);
  EXPECT_TRUE(largest(model.patch_embed.proj.weight) <= bound && largest(model.patch_embed.proj.weight) > 0.99 * bound);
  EXPECT_TRUE(largest(model.patch_embed.proj.bias) <= bound && largest(model.patch_embed.proj.bias) > 0.9 * bound);
  EXPECT_EQ(block.norm1.epsilon, 1e-5);
}

TEST(Registry, TheEpsilonOfNormsIsAnOption) {
  const Tensor images = ones({1, 3, 32, 32});
  for (const char* name : {"vit_tiny_patch4_32", "deit_tiny_distilled_patch4_32", "swin_tiny_patch2_window4_32"}) {
    const auto logits = [&](std::optional<double> epsilon) {
      return create_model(name, {.embed_dim = 24, .norm_eps = epsilon})(images).to_vector<float>();
    };
    const double usual = std::string(name).starts_with("swin") ? 1e-5 : 1e-6;
    EXPECT_EQ(logits(usual), logits({})) << name;
    EXPECT_NE(logits(0.1), logits({})) << name;
  }
  EXPECT_THROW(create_model("resnet18", {.norm_eps = 1e-6}), Error);
}

// ---- What is drawn in training ----

// Dropout behind the position embedding, attention's projection and both layers of an MLP;
// stochastic depth anew for each branch, never in the first block.
TEST(DropPath, EachBranchDrawsItsOwn) {
  const Tensor images = ones({2, 3, 16, 16});
  const auto draws = [&](const auto& model) {
    Generator generator{1};
    model(images, {.training = true, .generator = &generator});
    return generator.count;
  };
  const VisionTransformer vit = VisionTransformer::make(
      {.image = 16, .patch = 8, .dim = 6, .depth = 2, .heads = 1, .drop_rate = 0.1, .drop_path_rate = 0.2},
      Initializer(1));
  EXPECT_EQ(draws(vit), 1 + 3 + (3 + 2));
  const SwinTransformer swin = SwinTransformer::make(
      {.image = 16, .dim = 6, .depths = {1, 1}, .heads = {1, 1}, .window = 2, .drop_rate = 0.1, .drop_path_rate = 0.2},
      Initializer(1));
  EXPECT_EQ(draws(swin), 1 + 3 + (3 + 2));
}

// ---- Weight decay, images ----

TEST(Registry, WeightsThatDoNotDecayAreThoseOfThePapers) {
  const auto exempt = [](const char* name) { return create_model(name, {.embed_dim = 24}).info().no_decay; };
  using Names = std::vector<std::string>;
  EXPECT_EQ(exempt("vit_tiny_patch4_32"), (Names{"pos_embed", "cls_token"}));
  EXPECT_EQ(exempt("deit_tiny_distilled_patch4_32"), (Names{"pos_embed", "cls_token", "dist_token"}));
  EXPECT_EQ(exempt("swin_tiny_patch2_window4_32"), (Names{"absolute_pos_embed", "relative_position_bias_table"}));
  EXPECT_TRUE(create_model("resnet20_cifar").info().no_decay.empty());
}

TEST(Registry, PreprocessingIsTimms) {
  struct Expected {
    const char* name;
    ModelOptions options;
    double crop_pct;
    std::array<double, 3> mean, std;
    const char* interpolation;
  };
  const std::array<double, 3> half{0.5, 0.5, 0.5}, mean{0.485, 0.456, 0.406}, std{0.229, 0.224, 0.225};
  for (const Expected& e : std::initializer_list<Expected>{
           {"vit_tiny_patch16_224", {.depth = 1}, 0.9, half, half, "bicubic"},
           {"vit_tiny_patch16_384", {.depth = 1}, 1.0, half, half, "bicubic"},
           {"deit_tiny_patch16_224", {.depth = 1}, 0.9, mean, std, "bicubic"},
           {"deit_tiny_distilled_patch16_224", {.depth = 1}, 0.9, mean, std, "bicubic"},
           {"deit_base_patch16_384", {.depth = 1}, 1.0, mean, std, "bicubic"},
           {"swin_tiny_patch4_window7_224", {.depths = PerStage({1, 1, 1, 1})}, 0.9, mean, std, "bicubic"},
           {"swin_base_patch4_window12_384", {.depths = PerStage({1, 1, 1, 1})}, 1.0, mean, std, "bicubic"},
           {"vit_tiny_r_s16_p8_224", {.depth = 1}, 0.9, half, half, "bicubic"},
           {"vit_base_r50_s16_384", {.depth = 1}, 1.0, half, half, "bicubic"},
           {"resnet18", {}, 0.95, mean, std, "bicubic"}}) {
    const PretrainedConfig config = create_model(e.name, e.options).pretrained_config();
    EXPECT_EQ(config.crop_pct, e.crop_pct) << e.name;
    EXPECT_EQ(config.mean, e.mean) << e.name;
    EXPECT_EQ(config.std, e.std) << e.name;
    EXPECT_EQ(config.interpolation, e.interpolation) << e.name;
  }
}

}  // namespace
}  // namespace vitrine
