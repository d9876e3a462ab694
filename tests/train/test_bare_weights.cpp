// Weights without config.json: how their images are prepared follows from the names in the file,
// and flags win.
#include <gtest/gtest.h>

#include <array>

#include "tests/data/data_fixtures.h"
#include "tests/support/expectations.h"
#include "train/recipe/bare_weights.h"
#include "train/recipe/setup.h"
#include "weights/files/safetensors.h"
#include "weights/names/weight_layouts.h"

namespace vitrine {
namespace {

using vitrine::testing::TemporaryFolder;
using Three = std::array<double, 3>;

constexpr Three imagenet_mean{0.485, 0.456, 0.406}, imagenet_std{0.229, 0.224, 0.225}, half{0.5, 0.5, 0.5};

Recipe small_vit() {
  return parse_recipe("model: vit_base_patch16_224\nmodel-kwargs: {embed_dim: 12, depth: 1, num_heads: 3}\n", "test");
}

TEST(BareWeights, OfTimmAreSeenAsTheModelWantsIt) {
  const TemporaryFolder folder;
  const std::string file = folder / "weights.safetensors";
  Recipe recipe = small_vit();
  const Model model = create_model(recipe.model, model_options(recipe, 3));
  write_safetensors(file, model.state_dict());
  const LoadedModel loaded = load_bare_weights(file, recipe, 3);
  EXPECT_TRUE(loaded.notes.empty());
  EXPECT_EQ(loaded.model.classes(), 3);
  EXPECT_EQ(loaded.preprocessing.crop_pct, 0.9);  // where a training run with padded crops evaluates at 1
  EXPECT_EQ(preprocessing(recipe, model).crop_pct, 1);
  EXPECT_EQ(loaded.preprocessing.interpolation, "bicubic");
  EXPECT_EQ(loaded.preprocessing.mean, half);
  recipe.crop_pct = 0.8;
  recipe.std = {0.1, 0.2, 0.3};
  const PretrainedConfig told = load_bare_weights(file, recipe, 3).preprocessing;
  EXPECT_EQ(told.crop_pct, 0.8);
  EXPECT_EQ(told.std, (Three{0.1, 0.2, 0.3}));
}

TEST(BareWeights, OfTorchvisionAreSeenAsThere) {
  const TemporaryFolder folder;
  const std::string file = folder / "weights.safetensors";
  Recipe recipe = small_vit();
  const Model model = create_model(recipe.model, model_options(recipe, 3));
  write_safetensors(file, to_layout(model.state_dict(), WeightLayout::torchvision));
  const LoadedModel loaded = load_bare_weights(file, recipe, 3);
  EXPECT_EQ(loaded.preprocessing.mean, imagenet_mean);
  EXPECT_EQ(loaded.preprocessing.std, imagenet_std);
  EXPECT_EQ(loaded.preprocessing.crop_pct, 0.875);
  EXPECT_EQ(loaded.preprocessing.interpolation, "bilinear");
  ASSERT_EQ(loaded.notes.size(), 2u);
  EXPECT_TRUE(contains(loaded.notes[0], "under the names of torchvision's ViT")) << loaded.notes[0];
  EXPECT_TRUE(contains(loaded.notes[1], "mean 0.485 0.456 0.406, std 0.229 0.224 0.225, crop-pct 0.875, bilinear"))
      << loaded.notes[1];
  const Tensor images = full({1, 3, 224, 224}, 0.5);
  EXPECT_EQ(loaded.model(images).to_vector<float>(), model(images).to_vector<float>());

  recipe.mean = {0.5, 0.5, 0.5};
  recipe.crop_pct = 0.9;
  recipe.interpolation = "bicubic";
  const LoadedModel told = load_bare_weights(file, recipe, 3);
  EXPECT_EQ(told.preprocessing.mean, half);
  EXPECT_EQ(told.preprocessing.std, imagenet_std);
  EXPECT_TRUE(contains(told.notes[1], "mean 0.5 0.5 0.5, std 0.229 0.224 0.225, crop-pct 0.9, bicubic"))
      << told.notes[1];
}

// torchvision 0.29: `get_model_weights(name).IMAGENET1K_V1.transforms()`, and those of SWAG for 384
// pixels.
TEST(BareWeights, HaveTorchvisionsPresets) {
  const ModelOptions vit{.embed_dim = 12, .depth = 1, .num_heads = PerStage(3)};
  const ModelOptions swin{.embed_dim = 12, .depths = PerStage({1, 1, 1, 1}), .num_heads = PerStage({1, 2, 4, 8})};
  struct Preset {
    const char* name;
    ModelOptions options;
    int resized_side;
    const char* filter;
  };
  for (const Preset& preset :
       {Preset{"vit_base_patch16_224", vit, 256, "bilinear"}, Preset{"vit_base_patch32_224", vit, 256, "bilinear"},
        Preset{"vit_large_patch16_224", vit, 242, "bilinear"}, Preset{"vit_large_patch32_224", vit, 256, "bilinear"},
        Preset{"vit_base_patch16_384", vit, 384, "bicubic"},
        Preset{"swin_tiny_patch4_window7_224", swin, 232, "bicubic"},
        Preset{"swin_small_patch4_window7_224", swin, 246, "bicubic"},
        Preset{"swin_base_patch4_window7_224", swin, 238, "bicubic"}, Preset{"regnety_004", {}, 256, "bilinear"}}) {
    SCOPED_TRACE(preset.name);
    const PretrainedConfig prepared = torchvision_preprocessing(create_model(preset.name, preset.options));
    EXPECT_EQ(prepared.mean, imagenet_mean);
    EXPECT_EQ(prepared.std, imagenet_std);
    EXPECT_EQ(prepared.interpolation, preset.filter);
    EXPECT_EQ(eval_transform(prepared).resized_side(), preset.resized_side);
  }
}

}  // namespace
}  // namespace vitrine
