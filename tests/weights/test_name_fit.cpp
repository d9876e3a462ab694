// What stands before names: found by fit, and removed.
#include "weights/names/name_fit.h"

#include <gtest/gtest.h>

#include "ops/ops.h"
#include "tests/support/expectations.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"
#include "weights/names/weight_layouts.h"

namespace vitrine {
namespace {

/// The weights of a golden file under the names of its library.
StateDict weights_of(const std::string& file_name) {
  StateDict state;
  for (const auto& [name, tensor] : read_safetensors(source_dir() + "/tests/golden/" + file_name)) {
    for (const std::string prefix : {"param.", "buffer."}) {
      if (name.starts_with(prefix)) state.emplace_back(name.substr(prefix.size()), tensor);
    }
  }
  return state;
}

void expect_same(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    EXPECT_EQ(relative_error(a[i].second, b[i].second), 0) << a[i].first;
  }
}

TEST(NameFit, PrefixesAreFoundByFit) {
  for (const char* file : {"layout_vit_torchvision.safetensors", "layout_vit_huggingface.safetensors",
                           "layout_swin_microsoft.safetensors", "layout_resnet_basic_huggingface.safetensors"}) {
    const StateDict weights = weights_of(file);
    const StateDict expected = to_our_layout(weights).state;
    for (const std::string prefix : {"module.model.", "_orig_mod.", "backbone.", "encoder.", "model.backbone.encoder.",
                                     "some.wrapper_of_mine.", "params/"}) {
      SCOPED_TRACE(file + prefix);
      StateDict wrapped;
      for (const auto& [name, tensor] : weights) wrapped.emplace_back(prefix + name, tensor);
      TranslatedWeights translated = to_our_layout(wrapped);
      EXPECT_EQ(translated.prefix, prefix);
      expect_same(translated.state, expected);
      wrapped.back().first = weights.back().first;  // the head beside the backbone
      translated = to_our_layout(wrapped);
      EXPECT_EQ(translated.prefix, prefix);
      EXPECT_TRUE(translated.unknown.empty());
      expect_same(translated.state, expected);
    }
    EXPECT_EQ(to_our_layout(weights).prefix, "");
  }
}

TEST(NameFit, OfTwoModelsInAFileTheAverageIsTaken) {
  const StateDict weights = weights_of("layout_vit_torchvision.safetensors");
  StateDict both;
  for (const auto& [name, tensor] : weights) both.emplace_back("model." + name, tensor * 2);
  for (const auto& [name, tensor] : weights) both.emplace_back("model_ema." + name, tensor);
  const TranslatedWeights translated = to_our_layout(both);
  EXPECT_EQ(translated.prefix, "model_ema.");
  EXPECT_EQ(translated.copies.size(), weights.size());
  EXPECT_TRUE(translated.unknown.empty());
  expect_same(translated.state, to_our_layout(weights).state);
}

TEST(NameFit, GooglesNamesBelowThoseOfAnOptimiser) {
  const TranslatedWeights weights = to_our_layout({{"opt/target/pre_logits/kernel", ones({4, 6})},
                                                   {"opt/target/pre_logits/bias", ones({6})},
                                                   {"opt/target/head/kernel", ones({6, 3})},
                                                   {"opt/target/embedding/kernel", ones({2, 5, 3, 4})},
                                                   {"opt/target/cls", ones({1, 1, 4})},
                                                   {"opt/state/step", ones({})}});
  EXPECT_EQ(weights.prefix, "opt/target/");
  EXPECT_EQ(weights.unknown, (std::vector<std::string>{"opt/state/step"}));
  std::vector<std::pair<std::string, std::string>> shapes;
  for (const auto& [name, tensor] : weights.state) shapes.emplace_back(name, to_string(tensor.shape()));
  EXPECT_EQ(shapes, (std::vector<std::pair<std::string, std::string>>{{"pre_logits.fc.weight", "(6, 4)"},
                                                                      {"pre_logits.fc.bias", "(6)"},
                                                                      {"head.weight", "(3, 6)"},
                                                                      {"patch_embed.proj.weight", "(4, 3, 2, 5)"},
                                                                      {"cls_token", "(1, 1, 4)"}}));
}

TEST(NameFit, PartsOfAModelAreNoPrefix) {
  StateDict hybrid;  // whose ResNet has more blocks than the ViT behind it, with names that a ViT has too
  for (int i = 0; i < 2; ++i) hybrid.emplace_back(fmt::format("blocks.{}.norm1.weight", i), ones({1}));
  for (int i = 0; i < 9; ++i) {
    hybrid.emplace_back(fmt::format("patch_embed.backbone.stages.2.blocks.{}.norm1.weight", i), ones({1}));
  }
  hybrid.emplace_back("cls_token", ones({1}));
  hybrid.emplace_back("pos_embed", ones({1}));
  hybrid.emplace_back("head.bias", ones({1}));
  EXPECT_EQ(to_our_layout(hybrid).prefix, "");
}

TEST(NameFit, OfAModelThatNoTableKnowsTheUsualPrefixesAreRemoved) {
  const StateDict other = {{"module.model.a", ones({1})}, {"module.model.b.c", ones({1})}};
  EXPECT_EQ(to_our_layout(other).prefix, "module.model.");
  EXPECT_EQ(to_our_layout({{"x.a", ones({1})}, {"x.b", ones({1})}}).prefix, "");
}

}  // namespace
}  // namespace vitrine
