// What model families say of themselves: that nothing is forgotten, and that it is true of every
// model that has a name.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "models/catalog.h"
#include "models/registry.h"
#include "ops/ops.h"
#include "tests/support/expectations.h"
#include "tests/support/member_count.h"

namespace vitrine {
namespace {

// ---- A family that forgets something does not compile ----

struct WithoutName : SwinFamily {
 private:
  using SwinFamily::name;
};
struct WithoutSizeRule : SwinFamily {
 private:
  using SwinFamily::takes_any_size;
};
struct WithoutLayers : SwinFamily {
 private:
  using SwinFamily::layers;
};
struct WithoutNoDecay : SwinFamily {
 private:
  using SwinFamily::no_decay;
};
struct WithoutSummary : SwinFamily {
 private:
  using SwinFamily::summarize;
};
struct WithoutCatalog : SwinFamily {
 private:
  using SwinFamily::catalog;
};
struct ConfigWithoutOptions {
  std::int64_t image = 32, channels = 3, classes = 10;
};
struct ConfigWithoutClasses {
  std::int64_t image = 32, channels = 3;
  static void options(auto& self, auto&& option) { option(&ModelOptions::img_size, self.image, "pixels"); }
};

static_assert(ModelFamily<SwinFamily>);
static_assert(!ModelFamily<WithoutName>);
static_assert(!ModelFamily<WithoutSizeRule>);
static_assert(!ModelFamily<WithoutLayers>);
static_assert(!ModelFamily<WithoutNoDecay>);
static_assert(!ModelFamily<WithoutSummary>);
static_assert(!ModelFamily<WithoutCatalog>);
static_assert(ModelConfiguration<SwinConfig>);
static_assert(!ModelConfiguration<ConfigWithoutOptions>);
static_assert(!ModelConfiguration<ConfigWithoutClasses>);
static_assert(!ModelOf<ResNet, SwinConfig>);

// ---- Options ----

std::vector<std::string> options_of(auto config) {
  std::vector<std::string> names;
  decltype(config)::options(config, [&](auto option, auto&, const char*) { names.emplace_back(option_name(option)); });
  return names;
}

TEST(ModelOptions, AreAllListedAndEachIsAFamilys) {
  std::set<std::string> listed, of_families;
  const ModelOptions none;
  ModelOptions::options(none, [&](const char* name, const auto&) { listed.insert(name); });
  EXPECT_EQ(listed.size() + 2, member_count<ModelOptions>());  // dtype and seed
  Families::for_each([&]<ModelFamily F>() {
    const std::vector<std::string> names = options_of(typename F::Config{});
    EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size()) << F::name << " lists one twice";
    EXPECT_TRUE(std::ranges::count(names, "num_classes") && std::ranges::count(names, "img_size")) << F::name;
    of_families.insert(names.begin(), names.end());
  });
  EXPECT_EQ(listed, of_families);
}

TEST(ModelOptions, AreRefusedByFamiliesThatLackThem) {
  const auto error = [](const char* name, const ModelOptions& options) {
    return error_of([&] { summarize_model(name, options); });
  };
  EXPECT_EQ(error("resnet18", {.depth = 2}),
            "create_model: resnet18 has no option depth, expected one of num_classes, img_size, in_chans, drop_rate, "
            "depths");
  EXPECT_EQ(error("regnety_002", {.drop_path_rate = 0.1}),
            "create_model: regnety_002 has no option drop_path_rate, expected one of num_classes, img_size, in_chans, "
            "drop_rate");
  EXPECT_EQ(error("regnety_002", {.drop_path_rate = 0.0}), "");
  EXPECT_EQ(error("vit_tiny_patch4_32", {.num_heads = PerStage({1, 2})}),
            "create_model: vit_tiny_patch4_32 takes one value of num_heads, not 2");
  EXPECT_EQ(error("swin_tiny_patch2_window4_32", {.position = "left"}),
            "create_model: position is \"left\", expected none, absolute, relative or both");
  EXPECT_EQ(error("deit_tiny_distilled_patch4_32", {.distilled_head = "all"}),
            "create_model: distilled_head is \"all\", expected both, class or distillation");
  // Each name against each option: refused or taken, as the family's list has it.
  const std::vector<std::string> of_hybrid = options_of(HybridConfig{});
  EXPECT_FALSE(std::ranges::count(of_hybrid, "patch_size"));
  EXPECT_TRUE(error("vit_tiny_r_s16_p8_224", {.patch_size = 8})
                  .starts_with("create_model: vit_tiny_r_s16_p8_224 has no option patch_size"));
}

TEST(ModelOptions, ReachTheConfiguration) {
  const auto vit = std::get<ViTConfig>(config_of(create_model(
      "vit_tiny_patch4_32", {.num_classes = 3, .img_size = 16, .embed_dim = 12, .depth = 2, .class_token = false})));
  EXPECT_EQ(vit.classes, 3);
  EXPECT_EQ(vit.image, 16);
  EXPECT_EQ(vit.dim, 12);
  EXPECT_EQ(vit.depth, 2);
  EXPECT_EQ(vit.pool(), "avg");  // there is no other
  const auto swin = std::get<SwinConfig>(
      config_of(create_model("swin_tiny_patch2_window4_32", {.embed_dim = 24, .shift = false, .position = "both"})));
  EXPECT_EQ(swin.dim, 24);
  EXPECT_FALSE(swin.shift);
  EXPECT_EQ(swin.position, SwinPosition::both);
  const ModelOptions deit{.embed_dim = 12, .depth = 1, .distilled_head = "class"};
  EXPECT_EQ(std::get<DistilledConfig>(config_of(create_model("deit_tiny_distilled_patch4_32", deit))).inference_head,
            DistilledHead::classes);
}

TEST(ModelOptions, AreExplainedWithTheirFamilies) {
  const std::vector<std::string> lines = explain_options();
  EXPECT_TRUE(std::ranges::count(lines, "depth (vit, distilled deit, hybrid): number of blocks"));
  EXPECT_TRUE(std::ranges::count(lines, "depths (swin, resnet): blocks of every stage, such as \"2,2,6,2\""));
  EXPECT_TRUE(std::ranges::count(lines, "window_size (swin): patches on a side of a window"));
}

// ---- What is said of layers, weight decay, summary and names, of every model that has a name ----

template <ModelFamily F>
void check_named_model(const CatalogRow<typename F::Config>& row) {
  SCOPED_TRACE(row.name);
  auto model = F::Model::make(row.config, Initializer::shapes_only());
  std::vector<std::string> names;
  for (const NamedParameter& parameter : parameters(model)) names.push_back(parameter.name);

  const std::vector<int> depths = parameter_depths(names, F::layers);
  const int deepest = *std::ranges::max_element(depths);
  EXPECT_GE(deepest, 3) << "F::layers.block matches fewer than two blocks";
  for (int depth = 0; depth <= deepest; ++depth) EXPECT_TRUE(std::ranges::count(depths, depth)) << depth;
  for (const std::string& head : row.pretrained.classifier) {
    const auto weight = std::ranges::find(names, head + ".weight");
    ASSERT_NE(weight, names.end()) << head;
    EXPECT_TRUE(is_head_parameter(*weight, F::layers)) << head;
    EXPECT_EQ(depths[static_cast<std::size_t>(weight - names.begin())], deepest) << head;
  }
  EXPECT_TRUE(std::ranges::count(names, row.pretrained.first_conv + ".weight")) << row.pretrained.first_conv;

  std::int64_t in_rows = 0;
  for (const LayerSummary& layer : F::summarize(model)) in_rows += layer.parameters;
  EXPECT_EQ(in_rows, parameter_count(model));
  EXPECT_EQ(list_models(row.name).size(), 1u);
}

TEST(Families, AreTrueOfEveryNamedModel) {
  std::size_t named = 0;
  Families::for_each([&]<ModelFamily F>() {
    for (const auto& row : F::catalog()) check_named_model<F>(row);
    named += F::catalog().size();
  });
  EXPECT_EQ(named, list_models().size());  // no two have one name
}

TEST(Families, ExemptParametersThatExist) {
  Families::for_each([&]<ModelFamily F>() {
    std::set<std::string> last_components;
    auto model = F::Model::make(F::catalog().front().config, Initializer::shapes_only());
    for (const NamedParameter& parameter : parameters(model)) {
      last_components.insert(parameter.name.substr(parameter.name.rfind('.') + 1));
    }
    const auto exempt = F::no_decay();
    EXPECT_TRUE(exempt.empty() ||
                std::ranges::any_of(exempt, [&](const auto& n) { return last_components.contains(n); }))
        << F::name;
  });
}

// ---- DeiT is a ViT and a token ----

// The order of its state and of its draws, which checkpoints and seeds rest on: a ViT's, then from
// the first stream again the distillation token, the positions of one token more, and the second
// head.
TEST(DeiT, DrawsAViTAndThenWhatItAdds) {
  const ViTConfig config{.image = 16, .patch = 8, .classes = 5, .dim = 12, .depth = 1, .heads = 3};
  const auto model = DistilledVisionTransformer::make({.vit = config}, Initializer(7));
  const auto vit = VisionTransformer::make(config, Initializer(7));
  Initializer again(7);
  again.linear_scheme = LinearScheme::truncated_normal;
  StateDict expected = state_dict(vit);
  expected.insert(expected.begin() + 1, {"dist_token", again.truncated_normal({1, 1, 12}, 0.02).value()});
  expected[2].second = again.truncated_normal({1, 6, 12}, 0.02).value();
  const Linear head_dist = Linear::make(12, 5, again);
  expected.emplace_back("head_dist.weight", head_dist.weight.value());
  expected.emplace_back("head_dist.bias", head_dist.bias->value());

  const StateDict state = state_dict(model);
  ASSERT_EQ(state.size(), expected.size());
  for (std::size_t i = 0; i < state.size(); ++i) {
    EXPECT_EQ(state[i].first, expected[i].first);
    EXPECT_EQ(state[i].second.to_vector<float>(), expected[i].second.to_vector<float>()) << state[i].first;
  }
}

}  // namespace
}  // namespace vitrine
