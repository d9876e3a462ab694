// ResNet: published sizes, torchvision's numbers in training and at inference, and what a teacher
// needs of its buffers.
#include "models/resnet.h"

#include <gtest/gtest.h>

#include "models/registry.h"
#include "tests/models/model_checks.h"
#include "tests/support/golden_model.h"

namespace vitrine {
namespace {

ResNetConfig basic() { return {.image = 9, .classes = 5, .depths = {2, 1}, .width = 6, .small_images = true}; }
ResNetConfig bottleneck() { return {.image = 37, .classes = 5, .depths = {1, 1}, .width = 4, .bottleneck = true}; }

// torchvision's weights metadata; He et al. 2016, table 6, for the small ones (0.27 and 0.85
// million; ours have 1 x 1 convolutions as shortcuts).
TEST(ResNet, HasThePublishedSizes) {
  for (const auto& [name, parameters, gmacs] : std::initializer_list<Published>{{"resnet18", 11689512, 1.814},
                                                                                {"resnet34", 21797672, 3.664},
                                                                                {"resnet50", 25557032, 4.089},
                                                                                {"resnet20_cifar", 272474, 0.041},
                                                                                {"resnet56_cifar", 855770, 0.126},
                                                                                {"resnet18_cifar", 11173962, 0.555}}) {
    expect_published_size(name, parameters, gmacs, 3);
  }
}

TEST(ResNet, ASummaryCountsWhatTheModelHas) {
  for (const char* name : {"resnet20_cifar", "resnet50"}) {
    const Model model = create_model(name, {.num_classes = 3});
    expect_summary_counts_all(model);
  }
}

// ---- torchvision's numbers ----

void compare(const std::string& file_name, const ResNetConfig& config, DType dtype, double bound) {
  compare_in_training(file_name, ResNet::make(config, Initializer(1, dtype)), dtype, bound);
}

TEST(GoldenResNet, BasicBlocksInDouble) { compare("resnet_basic.safetensors", basic(), DType::f64, 1e-10); }
TEST(GoldenResNet, BasicBlocksInFloat) { compare("resnet_basic.safetensors", basic(), DType::f32, 1e-5); }
TEST(GoldenResNet, BottlenecksInDouble) { compare("resnet_bottleneck.safetensors", bottleneck(), DType::f64, 1e-10); }
TEST(GoldenResNet, BottlenecksInFloat) { compare("resnet_bottleneck.safetensors", bottleneck(), DType::f32, 1e-5); }

// ---- Details ----

TEST(ResNet, EveryBlockStartsAsTheIdentity) {
  const ResNet model =
      ResNet::make({.image = 8, .classes = 0, .depths = {3}, .width = 4, .small_images = true}, Initializer(1));
  Tensor images = empty({2, 3, 8, 8}, DType::f32);
  fill_normal(images, 0, 1, {5, Purpose::test, 1});
  const Tensor stem = relu(model.bn1(model.conv1(images), {.training = true}));
  EXPECT_EQ(model.forward_features(images, {.training = true}).to_vector<float>(), stem.to_vector<float>());
}

TEST(ResNet, TakesImagesOfAnySize) {
  const Model model = create_model("resnet18", {.num_classes = 3});
  EXPECT_EQ(model(ones({1, 3, 40, 56})).shape(), (Shape{1, 3}));
}

TEST(ResNet, StateDictsHaveTheRunningStatistics) {
  const Model trained = create_model("resnet20_cifar", {.depths = PerStage({1, 1}), .seed = 1});
  Tensor images = empty({4, 3, 8, 8}, DType::f32);
  fill_normal(images, 3, 2, {5, Purpose::test, 1});
  trained(images, {.training = true});
  Model other = create_model("resnet20_cifar", {.depths = PerStage({1, 1}), .seed = 2});
  EXPECT_EQ(other.load_state_dict(trained.state_dict()).missing.size(), 0u);
  EXPECT_EQ(other(images).to_vector<float>(), trained(images).to_vector<float>());

  Model average =
      create_model("resnet20_cifar", {.depths = PerStage({1, 1}), .seed = 1});  // the weights, not the statistics
  EXPECT_NE(average(images).to_vector<float>(), trained(images).to_vector<float>());
  average.copy_buffers_from(trained);
  EXPECT_EQ(average(images).to_vector<float>(), trained(images).to_vector<float>());
}

TEST(ResNet, MistakesAreErrors) {
  EXPECT_THROW(create_model("resnet18", {.patch_size = 4}), Error);
  EXPECT_THROW(create_model("resnet18", {.depths = PerStage({2, 0})}), Error);
  EXPECT_THROW(create_model("resnet18", {.drop_path_rate = 0.1}), Error);
  EXPECT_THROW(create_model("resnet18")(ones({1, 4, 8, 8})), Error);
}

}  // namespace
}  // namespace vitrine
