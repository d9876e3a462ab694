// Models: published parameter counts and multiply-adds, names, the registry, and how a ViT is put
// together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "autograd/gradcheck.h"
#include "models/registry.h"
#include "models/vit.h"
#include "ops/ops.h"
#include "tests/models/model_checks.h"

namespace vitrine {
namespace {

ViTConfig small_config() {
  return {.image = 8, .patch = 4, .classes = 5, .dim = 8, .depth = 3, .heads = 2, .mlp_ratio = 2};
}

Tensor random_images(const Shape& shape, DType dtype = DType::f32) {
  Tensor x = empty(shape, dtype);
  fill_normal(x, 0, 1, {5, Purpose::test, 1});
  return x;
}

// ---- Sizes, from the papers and timm ----

TEST(Models, HaveThePublishedSizes) {
  for (const auto& [name, parameters, gmacs] :
       std::initializer_list<Published>{{"vit_tiny_patch16_224", 5717416, 1.25},
                                        {"vit_tiny_patch16_384", 5790376, 4.68},
                                        {"vit_small_patch32_224", 22878952, 1.14},
                                        {"vit_small_patch32_384", 22915432, 3.44},
                                        {"vit_small_patch16_224", 22050664, 4.60},
                                        {"vit_small_patch16_384", 22196584, 15.49},
                                        {"vit_base_patch32_224", 88224232, 4.41},
                                        {"vit_base_patch32_384", 88297192, 13.04},
                                        {"vit_base_patch16_224", 86567656, 17.56},
                                        {"vit_base_patch16_384", 86859496, 55.48},
                                        {"vit_large_patch32_224", 306535400, 15.38},
                                        {"vit_large_patch32_384", 306632680, 45.28},
                                        {"vit_large_patch16_224", 304326632, 61.55},
                                        {"vit_large_patch16_384", 304715752, 191.07},
                                        {"vit_large_patch14_224", 304203752, 81.01},
                                        {"vit_huge_patch14_224", 632045800, 167.30}}) {
    expect_published_size(name, parameters, gmacs, 2);
  }
}

TEST(Models, DeitsHaveThePublishedSizes) {
  for (const auto& [name, parameters, gmacs] :
       std::initializer_list<Published>{{"deit_tiny_patch16_224", 5717416, 1.25},
                                        {"deit_small_patch16_224", 22050664, 4.60},
                                        {"deit_base_patch16_224", 86567656, 17.56},
                                        {"deit_base_patch16_384", 86859496, 55.48},
                                        {"deit_tiny_distilled_patch16_224", 5910800, 1.26},
                                        {"deit_small_distilled_patch16_224", 22436432, 4.62},
                                        {"deit_base_distilled_patch16_224", 87338192, 17.66},
                                        {"deit_base_distilled_patch16_384", 87630032, 55.59}}) {
    expect_published_size(name, parameters, gmacs, 2);
  }
  EXPECT_EQ(summarize_model("deit_tiny_distilled_patch4_32").parameters(), 5365076);
  // With 577 and 578 tokens at 384 pixels: timm's create_model(name, img_size=384).
  EXPECT_EQ(summarize_model("deit_tiny_patch16_224", {.img_size = 384}).parameters(), 5790376);
  EXPECT_EQ(summarize_model("deit_tiny_distilled_patch16_224", {.img_size = 384}).parameters(), 5983760);
  EXPECT_EQ(summarize_model("deit_tiny_distilled_patch4_32", {.num_classes = 100}).parameters(), 5399816);
}

TEST(Models, ADistilledModelHasTwoHeads) {
  const ModelOptions options{.num_classes = 5, .embed_dim = 12, .depth = 1, .num_heads = 2};
  const Model model = create_model("deit_tiny_distilled_patch4_32", options);
  const Tensor images = random_images({2, 3, 32, 32});
  const auto heads = model.forward_heads(images);
  ASSERT_EQ(heads.size(), 2u);
  const auto mean_logits = ((heads[0] + heads[1]) * 0.5).to_vector<float>();
  EXPECT_EQ(model(images).to_vector<float>(), mean_logits);
  ModelOptions one = options;
  one.distilled_head = "distillation";
  EXPECT_EQ(create_model("deit_tiny_distilled_patch4_32", one)(images).to_vector<float>(), heads[1].to_vector<float>());
  EXPECT_EQ(create_model("vit_tiny_patch4_32", options).forward_heads(images).size(), 1u);
  EXPECT_THROW(create_model("vit_tiny_patch4_32", one), Error);
}

TEST(Models, HaveTheKnownSizesAt32Pixels) {
  EXPECT_EQ(summarize_model("vit_tiny_patch4_32").parameters(), 5362762);
  EXPECT_EQ(summarize_model("vit_tiny_patch4_32", {.num_classes = 100}).parameters(), 5380132);
  EXPECT_EQ(summarize_model("vit_small_patch4_32").parameters(), 21342346);
  EXPECT_EQ(summarize_model("vit_small_patch4_32", {.num_classes = 100}).parameters(), 21376996);
  EXPECT_EQ(std::llround(static_cast<double>(summarize_model("vit_tiny_patch4_32").macs()) * 1e-6), 365);
  EXPECT_EQ(std::llround(static_cast<double>(summarize_model("vit_small_patch4_32").macs()) * 1e-7), 142);
}

TEST(Models, ASummaryCountsWhatTheModelHas) {
  for (ModelOptions options : {ModelOptions{}, ModelOptions{.class_token = false},
                               ModelOptions{.num_classes = 7, .global_pool = "avg", .representation_size = 24},
                               ModelOptions{.num_classes = 0, .depth = 2}}) {
    options.embed_dim = 24;
    const Model model = create_model("vit_tiny_patch4_32", options);
    expect_summary_counts_all(model);
    EXPECT_EQ(model.summary().macs(), summarize_model("vit_tiny_patch4_32", options).macs());
  }
}

TEST(Models, SummaryAsTextAndJson) {
  ModelSummary summary{.name = "m", .layers = {{"head", {4, 10}, 1234567, 5}, {"norm", {4}, 8, 0}}};
  EXPECT_EQ(to_json(summary),
            "{\"name\": \"m\", \"parameters\": 1234575, \"macs\": 5, \"layers\": [\n"
            "  {\"name\": \"head\", \"output_shape\": [4, 10], \"parameters\": 1234567, \"macs\": 5},\n"
            "  {\"name\": \"norm\", \"output_shape\": [4], \"parameters\": 8, \"macs\": 0}\n]}\n");
  const std::string table = to_table(summary);
  EXPECT_NE(table.find("1,234,567"), std::string::npos);
  EXPECT_NE(table.find("(4, 10)"), std::string::npos);
  EXPECT_NE(table.find("1,234,575"), std::string::npos);
}

// ---- Names ----

TEST(Models, ParametersHaveTimmsNames) {
  const auto state = state_dict(VisionTransformer::make({.depth = 12}, Initializer::shapes_only()));
  EXPECT_EQ(state.size(), 152u);
  const auto shape_of = [&](const std::string& name) {
    const auto found = std::ranges::find(state, name, [](const auto& item) { return item.first; });
    return found == state.end() ? std::string("no ") + name : to_string(found->second.shape());
  };
  EXPECT_EQ(shape_of("cls_token"), "(1, 1, 192)");
  EXPECT_EQ(shape_of("pos_embed"), "(1, 197, 192)");
  EXPECT_EQ(shape_of("patch_embed.proj.weight"), "(192, 3, 16, 16)");
  EXPECT_EQ(shape_of("patch_embed.proj.bias"), "(192)");
  EXPECT_EQ(shape_of("blocks.11.norm1.weight"), "(192)");
  EXPECT_EQ(shape_of("blocks.3.attn.qkv.weight"), "(576, 192)");
  EXPECT_EQ(shape_of("blocks.3.attn.qkv.bias"), "(576)");
  EXPECT_EQ(shape_of("blocks.0.attn.proj.weight"), "(192, 192)");
  EXPECT_EQ(shape_of("blocks.0.norm2.bias"), "(192)");
  EXPECT_EQ(shape_of("blocks.0.mlp.fc1.weight"), "(768, 192)");
  EXPECT_EQ(shape_of("blocks.0.mlp.fc2.weight"), "(192, 768)");
  EXPECT_EQ(shape_of("norm.weight"), "(192)");
  EXPECT_EQ(shape_of("head.weight"), "(1000, 192)");
  EXPECT_EQ(shape_of("head.bias"), "(1000)");
}

TEST(Registry, ListsByGlob) {
  EXPECT_EQ(list_models("vit_tiny_patch?_32"), (std::vector<std::string>{"vit_tiny_patch2_32", "vit_tiny_patch4_32"}));
  EXPECT_EQ(list_models("*huge*"), std::vector<std::string>{"vit_huge_patch14_224"});
  EXPECT_EQ(list_models("vit*_384").size(), 11u);
  EXPECT_TRUE(list_models("alexnet*").empty());
  EXPECT_EQ(list_models("resnet??").size(), 3u);
  EXPECT_EQ(list_models("deit*distilled*").size(), 6u);
  EXPECT_EQ(list_models("swin_*_224").size(), 4u);
  std::size_t together = 0;
  for (const char* family : {"vit*", "deit*", "swin*", "cvt*", "resnet*", "regnety*"})
    together += list_models(family).size();
  EXPECT_EQ(list_models().size(), together);
  EXPECT_TRUE(std::ranges::is_sorted(list_models()));
}

TEST(Registry, AnUnknownNameMeetsTheClosest) {
  try {
    create_model("vit_tiny_patch16_244");
    FAIL() << "an unknown name was accepted";
  } catch (const UnknownModel& error) {
    EXPECT_NE(std::string(error.what()).find("no model is called \"vit_tiny_patch16_244\""), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("vit_tiny_patch16_224"), std::string::npos);
  }
  EXPECT_THROW(summarize_model(""), UnknownModel);
}

TEST(Registry, ATagIsAccepted) {
  EXPECT_EQ(summarize_model("vit_base_patch16_224.augreg_in1k").parameters(), 86567656);
}

TEST(Registry, OptionsChangeTheModel) {
  const Model model = create_model("vit_tiny_patch4_32", {.num_classes = 3, .img_size = 16, .depth = 2, .seed = 4});
  EXPECT_EQ(model.classes(), 3);
  EXPECT_EQ(model.pretrained_config().input_size, (std::array<std::int64_t, 3>{3, 16, 16}));
  EXPECT_EQ(model(random_images({2, 3, 16, 16})).shape(), (Shape{2, 3}));
  EXPECT_EQ(model.name(), "vit_tiny_patch4_32");
  EXPECT_EQ(model.info().no_decay, (std::vector<std::string>{"pos_embed", "cls_token"}));
  EXPECT_THROW(create_model("vit_tiny_patch4_32", {.img_size = 30}), Error);
  EXPECT_THROW(create_model("vit_tiny_patch4_32", {.num_heads = 5}), Error);
  EXPECT_THROW(create_model("vit_tiny_patch4_32", {.drop_path_rate = 1.0}), Error);
  EXPECT_THROW(create_model("vit_tiny_patch4_32", {.class_token = false, .global_pool = "token"}), Error);
  EXPECT_THROW(create_model("vit_tiny_patch4_32", {.global_pool = "max"}), Error);
}

TEST(Registry, ADeepCopyIsIndependentAndEqual) {
  const Model model = create_model("vit_tiny_patch4_32", {.embed_dim = 24, .depth = 2, .seed = 3});
  const Model copy = model.deep_copy();
  const Tensor images = random_images({2, 3, 32, 32});
  EXPECT_EQ(model(images).to_vector<float>(), copy(images).to_vector<float>());
  fill(model.parameters().back().parameter->value(), 9);  // head.bias
  EXPECT_NE(model(images).to_vector<float>(), copy(images).to_vector<float>());
  Model other = create_model("vit_tiny_patch4_32", {.embed_dim = 24, .depth = 2, .seed = 4});
  EXPECT_NE(other(images).to_vector<float>(), copy(images).to_vector<float>());
  EXPECT_TRUE(other.load_state_dict(copy.state_dict()).clean());
  EXPECT_EQ(other(images).to_vector<float>(), copy(images).to_vector<float>());
}

// ---- The ViT itself ----

TEST(ViT, DropPathGrowsLinearly) {
  ViTConfig config = small_config();
  config.drop_path_rate = 0.3;
  const VisionTransformer model = VisionTransformer::make(config, Initializer(1));
  EXPECT_EQ(model.blocks[0].drop_path.rate, 0);
  EXPECT_TRUE(std::abs(model.blocks[1].drop_path.rate - 0.15) < 1e-15);
  EXPECT_TRUE(std::abs(model.blocks[2].drop_path.rate - 0.3) < 1e-15);
}

TEST(ViT, EveryFormGivesLogitsAndAGradientToEveryParameter) {
  for (const bool token : {true, false}) {
    for (const std::string pool : {"token", "avg"}) {
      if (!token && pool == "token") continue;
      for (const std::int64_t representation : {0, 6}) {
        ViTConfig config = small_config();
        config.class_token = token;
        config.global_pool = pool;
        config.representation_size = representation;
        VisionTransformer model = VisionTransformer::make(config, Initializer(1, DType::f64));
        Tape tape;
        const Tensor logits = model(random_images({2, 3, 8, 8}, DType::f64));
        ASSERT_EQ(logits.shape(), (Shape{2, 5}));
        const Gradients gradients = tape.backward(cross_entropy(logits, from_values<std::int64_t>({1, 4}, {2})));
        for_each_parameter(model, [&](const std::string& name, const Parameter& p) {
          ASSERT_TRUE(gradients[p].defined()) << name;
          EXPECT_EQ(gradients[p].shape(), p.shape()) << name;
        });
      }
    }
  }
}

TEST(ViT, GradientsOfAWholeModelAreRight) {
  const ViTConfig config{.image = 4,
                         .patch = 2,
                         .channels = 1,
                         .classes = 2,
                         .dim = 4,
                         .depth = 2,
                         .heads = 2,
                         .mlp_ratio = 1,
                         .representation_size = 3,
                         .drop_rate = 0.1,
                         .drop_path_rate = 0.5};
  VisionTransformer model = VisionTransformer::make(config, Initializer(1, DType::f64));
  std::uint64_t stream = 0;
  for_each_parameter(model, [&](const std::string&, Parameter& p) {
    Tensor noise = empty(p.shape(), DType::f64);
    fill_normal(noise, 0, 0.5, {6, Purpose::test, stream++});
    add_into(p.value(), noise);
  });
  const Tensor images = random_images({3, 1, 4, 4}, DType::f64);
  const GradcheckReport report = check_parameter_gradients(
      [&] {
        Generator generator{2};
        return model(images, Pass{.training = true, .generator = &generator});
      },
      parameters(model));
  EXPECT_TRUE(report.passed) << report.message;
  EXPECT_EQ(report.entries, 6 * parameter_count(model));
}

TEST(ViT, TheHeadPoolsPatchesOnlyAndSquashesTheRepresentation) {
  ViTConfig config = small_config();
  config.global_pool = "avg";
  config.representation_size = 3;
  const VisionTransformer model = VisionTransformer::make(config, Initializer(1, DType::f64));
  Tensor tokens = empty({1, config.tokens(), config.dim}, DType::f64);
  fill_normal(tokens, 0, 1, {5, Purpose::test, 2});
  const Tensor patches = slice(tokens, 1, 1, config.tokens());
  const Tensor pooled = layer_norm(mean(patches, {1}), ones({8}, DType::f64), zeros({8}, DType::f64), 1e-6);
  const Tensor representation =
      tanh(linear(pooled, model.pre_logits->fc.weight, Tensor(model.pre_logits->fc.bias.value())));
  const auto expected = linear(representation, model.head->weight).to_vector<double>();  // the biases start at 0
  const auto got = model.forward_head(tokens).to_vector<double>();
  for (std::size_t i = 0; i < 5; ++i) EXPECT_TRUE(std::abs(got[i] - expected[i]) <= 1e-13) << i;
  fill(tokens, 0);
  Tensor first = select(tokens, 1, 0);
  fill(first, 3);
  EXPECT_EQ(model.forward_head(tokens).to_vector<double>(),
            std::vector<double>(5, 0));  // the class token is not pooled
}

TEST(ViT, ImagesOfAnotherSizeAreAnError) {
  const VisionTransformer model = VisionTransformer::make(small_config(), Initializer(1));
  try {
    model(ones({2, 3, 8, 16}));
    FAIL() << "images of another size were accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "vit: images have shape (2, 3, 8, 16), expected (B, 3, 8, 8)");
  }
}

}  // namespace
}  // namespace vitrine
