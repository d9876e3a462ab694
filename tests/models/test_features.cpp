// A model without a head gives the features on which the head would compute the logits, in every
// family.
#include <gtest/gtest.h>

#include "models/registry.h"
#include "ops/ops.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

struct Family {
  const char* name;
  ModelOptions options;
  std::vector<std::string> heads = {"head"};
};

std::vector<Family> families() {
  const ModelOptions vit{.embed_dim = 12, .depth = 2, .num_heads = 3};
  ModelOptions averaged = vit, hybrid = vit;
  averaged.global_pool = "avg";
  hybrid.img_size = 64;
  return {
      {"vit_tiny_patch4_32", vit},
      {"vit_tiny_patch4_32", averaged},
      {"deit_tiny_distilled_patch4_32", vit, {"head", "head_dist"}},
      {"swin_tiny_patch2_window4_32",
       {.embed_dim = 12, .depths = PerStage({1, 2}), .num_heads = PerStage({1, 2})},
       {"head.fc"}},
      {"cvt_13_32", {.embed_dim = 4, .depths = PerStage({1, 1, 1})}, {"head"}},
      {"resnet20_cifar", {.depths = PerStage({1, 1})}, {"fc"}},
      {"regnety_002", {.img_size = 32}, {"head.fc"}},
      {"vit_tiny_r_s16_p8_224", hybrid},
  };
}

Tensor& named(StateDict& state, const std::string& name) {
  for (auto& [candidate, tensor] : state) {
    if (candidate == name) return tensor;
  }
  throw Error(fmt::format("there is no {}", name));
}

TEST(Features, TheHeadTurnsThemIntoTheLogits) {
  for (const auto& [name, options, heads] : families()) {
    SCOPED_TRACE(name);
    ModelOptions with = options, without = options;
    with.dtype = without.dtype = DType::f64;
    with.num_classes = 5;
    without.num_classes = 0;
    without.seed = 1;
    const Model model = create_model(name, with);
    StateDict weights = model.state_dict();
    for (const std::string& head : heads) fill_normal(named(weights, head + ".bias"), 0, 1, {5, Purpose::test, 2});
    Model headless = create_model(name, without);
    const LoadReport report = headless.load_state_dict(weights, false);
    EXPECT_TRUE(report.missing.empty() && report.mismatched.empty()) << to_string(report);
    EXPECT_EQ(report.unexpected.size(), 2 * heads.size()) << to_string(report);

    const std::int64_t side = model.pretrained_config().input_size[1];
    Tensor images = empty({2, 3, side, side}, DType::f64);
    fill_normal(images, 0, 1, {5, Purpose::test, 1});
    const std::vector<Tensor> features = headless.forward_heads(images), logits = model.forward_heads(images);
    ASSERT_EQ(features.size(), heads.size());
    ASSERT_EQ(logits.size(), heads.size());
    for (std::size_t i = 0; i < heads.size(); ++i) {
      const Tensor of_features =
          linear(features[i], named(weights, heads[i] + ".weight"), named(weights, heads[i] + ".bias"));
      EXPECT_EQ(logits[i].shape(), (Shape{2, 5}));
      EXPECT_TRUE(relative_error(of_features, logits[i]) <= 1e-12) << relative_error(of_features, logits[i]);
    }
    // The answer: the features, of two tokens their mean.
    Tensor answer = features[0];
    if (features.size() == 2) answer = (features[0] + features[1]) * 0.5;
    EXPECT_TRUE(relative_error(headless(images), answer) <= 1e-15);
  }
}

}  // namespace
}  // namespace vitrine
