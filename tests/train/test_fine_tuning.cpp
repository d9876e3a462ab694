// Fine-tuning: learning rates that depend on how deep a layer sits.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "models/family/parameter_depth.h"
#include "models/registry.h"
#include "models/regnet.h"
#include "models/vit.h"
#include "ops/ops.h"
#include "train/recipe/setup.h"

namespace vitrine {
namespace {

std::vector<std::string> parameter_names(const Model& model) {
  std::vector<std::string> names;
  for (const NamedParameter& parameter : model.parameters()) names.push_back(parameter.name);
  return names;
}

std::map<std::string, int> depths_of(const Model& model) {
  const std::vector<std::string> names = parameter_names(model);
  const std::vector<int> depths = parameter_depths(names, model.info().layers);
  std::map<std::string, int> by_name;
  for (std::size_t i = 0; i < names.size(); ++i) by_name[names[i]] = depths[i];
  return by_name;
}

/// Number of parameters at each depth.
std::vector<int> counts(const std::map<std::string, int>& depths) {
  std::vector<int> count;
  for (const auto& [name, depth] : depths) {
    count.resize(std::max<std::size_t>(count.size(), static_cast<std::size_t>(depth) + 1));
    ++count[static_cast<std::size_t>(depth)];
  }
  return count;
}

// timm 1.0.31: group_parameters(model, model.group_matcher(coarse=False), reverse=True).
TEST(ParameterDepths, AreTimms) {
  auto depths = depths_of(create_model("deit_tiny_distilled_patch4_32", {.embed_dim = 12, .depth = 2}));
  EXPECT_EQ(counts(depths), (std::vector<int>{5, 12, 14, 4}));
  EXPECT_EQ(depths["dist_token"], 0);
  EXPECT_EQ(depths["norm.weight"], 2);
  EXPECT_EQ(depths["head_dist.bias"], 3);

  depths = depths_of(create_model("swin_tiny_patch4_window7_224", {.depths = PerStage({2, 2, 1, 1})}));
  EXPECT_EQ(counts(depths), (std::vector<int>{4, 13, 13, 16, 13, 16, 18, 2}));
  EXPECT_EQ(depths["layers.1.downsample.reduction.weight"], depths["layers.1.blocks.0.attn.qkv.weight"]);
  EXPECT_EQ(depths["norm.bias"], 6);

  depths = depths_of(create_model("resnet18"));
  EXPECT_EQ(counts(depths), (std::vector<int>{3, 6, 6, 9, 6, 9, 6, 9, 6, 2}));
  EXPECT_EQ(depths["fc.weight"], 9);

  EXPECT_EQ(counts(depths_of(create_model("regnety_002"))),
            (std::vector<int>{3, 16, 16, 16, 13, 13, 13, 16, 13, 13, 13, 13, 13, 13, 2}));
  EXPECT_EQ(parameter_depths({"stem.bn.weight", "s1.b1.se.fc1.weight", "s2.b1.conv1.conv.weight", "head.fc.bias"},
                             RegNetFamily::layers),
            (std::vector<int>{0, 1, 2, 3}));
}

TEST(LearningRateScales, FallFromTheHeadToThePatches) {
  const std::vector<std::string> names{"pos_embed", "blocks.0.attn.qkv.weight", "blocks.1.mlp.fc1.bias", "norm.bias",
                                       "head.weight"};
  EXPECT_EQ(learning_rate_scales(parse_recipe("lr: 1e-3\nlayer-decay: 0.5\n", "test"), names, ViTFamily::layers),
            (std::vector<double>{0.125, 0.25, 0.5, 0.5, 1}));
  EXPECT_EQ(learning_rate_scales(parse_recipe("lr: 1e-5\nhead-lr: 1e-3\n", "test"), names, ViTFamily::layers),
            (std::vector<double>{1, 1, 1, 1, 1e-3 / 1e-5}));
  EXPECT_EQ(learning_rate_scales(parse_recipe("lr: 1e-5\n", "test"), names, ViTFamily::layers),
            (std::vector<double>(5, 1.0)));
}

// The first step of AdamW without weight decay moves every number by the learning rate, whatever
// its gradient is.
TEST(LearningRateScales, AreWhatTheOptimizerSteps) {
  const Model model = create_model("vit_tiny_patch4_32", {.patch_size = 16, .embed_dim = 12, .depth = 2});
  const StateDict before = model.deep_copy().state_dict();
  const Recipe recipe = parse_recipe("weight-decay: 0\nlr: 1e-2\nhead-lr: 3e-2\nlayer-decay: 0.5\n", "test");
  const auto optimizer = make_optimizer(recipe, model);
  optimizer->set_learning_rate(peak_learning_rate(recipe).value);
  Tensor images = empty({2, 3, 32, 32}, DType::f32);
  fill_normal(images, 0, 1, {5, Purpose::test, 1});
  Tape tape;
  optimizer->step(tape.backward(sum(square(model(images)))));
  const std::map<std::string, double> expected{{"pos_embed", 1.25e-3},
                                               {"blocks.0.mlp.fc1.weight", 2.5e-3},
                                               {"blocks.1.mlp.fc1.weight", 5e-3},
                                               {"head.weight", 3e-2}};
  std::size_t compared = 0;
  for (const auto& [name, start] : before) {
    const auto found = expected.find(name);
    if (found == expected.end()) continue;
    for (const auto& [other, parameter] : model.parameters()) {
      if (other != name) continue;
      const double moved = amax(abs(parameter->value() - start)).item();
      EXPECT_NEAR(moved, found->second, 0.01 * found->second) << name;
      ++compared;
    }
  }
  EXPECT_EQ(compared, expected.size());
}

}  // namespace
}  // namespace vitrine
