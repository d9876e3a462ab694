// Tests of models that see other channels than red, green and blue: their first convolution
// against timm's, and the brightness that a model of one channel sees.
#include "weights/adapt_channels.h"

#include <gtest/gtest.h>

#include <cmath>

#include "nn/layers.h"
#include "tests/support/golden_model.h"
#include "weights/load_weights.h"

namespace vitrine {
namespace {

Tensor random_images(const Shape& shape, std::uint64_t stream) {
  Tensor x = empty(shape, DType::f32);
  fill_normal(x, 0, 1, {5, Purpose::test, stream});
  return x;
}

TEST(InputChannels, AreAdaptedAsTimmDoesIt) {
  const auto golden = read_safetensors(source_dir() + "/tests/golden/input_channels.safetensors");
  const Tensor kernel = golden.at("kernel");
  for (const std::int64_t channels : {1, 2, 3, 4, 7}) {
    const std::string name = "channels." + std::to_string(channels);
    const double error = relative_error(adapt_input_channels(kernel, channels), golden.at(name));
    EXPECT_TRUE(error <= 1e-6) << name << ": " << error;  // timm computes in float
  }
  EXPECT_THROW(adapt_input_channels(golden.at("channels.4"), 1), Error);
}

/// Small models of every family.
const std::vector<std::pair<std::string, ModelOptions>> models = {
    {"vit_tiny_patch4_32", {.num_classes = 3, .embed_dim = 12, .depth = 1, .num_heads = PerStage(3)}},
    {"deit_tiny_distilled_patch4_32", {.num_classes = 3, .embed_dim = 12, .depth = 1, .num_heads = PerStage(3)}},
    {"vit_tiny_r_s16_p8_224", {.num_classes = 3, .img_size = 64, .embed_dim = 12, .depth = 1}},
    {"swin_tiny_patch2_window4_32",
     {.num_classes = 3, .embed_dim = 12, .depths = PerStage({1, 2}), .num_heads = PerStage({1, 2})}},
    {"cvt_13_32", {.num_classes = 3, .embed_dim = 8, .num_heads = PerStage({2, 2, 4})}},
    {"resnet18", {.num_classes = 3, .img_size = 32, .depths = PerStage({1, 1, 1, 1})}},
    {"regnety_002", {.num_classes = 3, .img_size = 32}},
};

TEST(InputChannels, EveryFamilySeesGreyImagesAsItSawThemInColors) {
  for (auto [name, options] : models) {
    const Model colors = create_model(name, options);
    options.in_chans = 1;
    options.seed = 2;
    Model grey = create_model(name, options);
    EXPECT_EQ(grey.pretrained_config().input_size[0], 1) << name;
    const WeightLoad load = load_weights(grey, colors.state_dict(), {.strict = false});
    ASSERT_EQ(load.notes.size(), 1u) << name;
    EXPECT_NE(load.notes[0].find("from 3 channels to 1 (their sum)"), std::string::npos) << load.notes[0];
    const std::int64_t side = grey.pretrained_config().input_size[1];
    const Tensor one = random_images({2, 1, side, side}, 5);
    const Tensor three = concat({one, one, one}, 1);
    const double error = relative_error(grey(one), colors(three));
    // A hybrid standardises its first kernel, and so the sum of the three: as in timm, the grey
    // model is then another.
    const bool standardises = grey.info().family == "hybrid";
    EXPECT_TRUE(error <= (standardises ? 0.1 : 1e-4)) << name << ": " << error;
    EXPECT_EQ(relative_error(grey(three), grey(one)), 0) << name << ": three equal channels are exactly the one";
    EXPECT_THROW(load_weights(grey, colors.state_dict()), Error) << name << ": strict";
  }
}

TEST(InputChannels, OneChannelIsTheBrightnessOfColours) {
  auto [name, options] = models[0];
  options.in_chans = 1;
  const Model grey = create_model(name, options);
  const Tensor colors = random_images({2, 3, 32, 32}, 6);
  const Tensor brightness =
      slice(colors, 1, 0, 1) * 0.299 + slice(colors, 1, 1, 2) * 0.587 + slice(colors, 1, 2, 3) * 0.114;
  EXPECT_TRUE(relative_error(grey(colors), grey(brightness)) <= 1e-5);
  options.in_chans = 4;
  EXPECT_THROW(create_model(name, options)(colors), Error);
}

TEST(InputChannels, OneChannelHasOneMeanAndDeviation) {
  const PretrainedConfig grey =
      with_equal_colors({.input_size = {1, 32, 32}, .mean = {0.2, 0.4, 0.9}, .std = {0.1, 0.2, 0.3}});
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_TRUE(std::abs(grey.mean[c] - 0.5) < 1e-12);
    EXPECT_TRUE(std::abs(grey.std[c] - 0.2) < 1e-12);
  }
  EXPECT_EQ(with_equal_colors(imagenet_config(224)).mean, imagenet_config(224).mean);
}

}  // namespace
}  // namespace vitrine
