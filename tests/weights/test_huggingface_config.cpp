// config.json and preprocessor_config.json for transformers: what is written builds the same model
// when it is read. (docs/weights.md tells what transformers itself made of such folders.)
#include "weights/huggingface/config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/data/data_fixtures.h"
#include "tests/support/expectations.h"
#include "weights/model_folder.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using vitrine::testing::TemporaryFolder;

const PretrainedConfig other_images{
    .interpolation = "bilinear", .crop_pct = 0.83, .mean = {0.1, 0.2, 0.3}, .std = {0.4, 0.5, 0.6}};
const ModelOptions small_vit{.num_classes = 3, .embed_dim = 12, .depth = 1, .num_heads = PerStage(3)};
const ModelOptions small_swin{
    .num_classes = 3, .embed_dim = 12, .depths = PerStage({1, 2}), .num_heads = PerStage({1, 2})};

void expect_same_images(const PretrainedConfig& actual, const PretrainedConfig& expected) {
  EXPECT_EQ(actual.input_size, expected.input_size);
  EXPECT_EQ(actual.interpolation, expected.interpolation);
  EXPECT_EQ(actual.crop_pct, expected.crop_pct);
  EXPECT_EQ(actual.mean, expected.mean);
  EXPECT_EQ(actual.std, expected.std);
}

json parsed(const fs::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

// ---- There and back ----

TEST(HuggingFaceConfig, EveryArchitectureGoesThereAndBack) {
  ModelOptions vit = small_vit, deit = small_vit, swin = small_swin;
  vit.mlp_ratio = 29.5 / 12;  // 29 hidden features
  vit.norm_eps = 0.01;
  deit.img_size = 48;
  swin.position = "both";
  swin.mlp_ratio = 2.5;
  for (const auto& [name, options] : std::initializer_list<std::pair<const char*, ModelOptions>>{
           {"vit_tiny_patch4_32", vit},
           {"deit_tiny_distilled_patch4_32", deit},
           {"swin_tiny_patch2_window4_32", small_swin},
           {"swin_tiny_patch2_window4_32", swin},
           {"cvt_13_224",
            {.num_classes = 3, .img_size = 48, .embed_dim = 6, .depths = PerStage({1, 1, 2}), .mlp_ratio = 2}},
           {"cvt_13_32", {.num_classes = 3, .embed_dim = 8, .num_heads = PerStage({2, 2, 4})}},
           {"resnet18", {.num_classes = 3, .img_size = 48, .depths = PerStage({1, 2, 1})}},
           {"resnet50", {.num_classes = 3, .img_size = 48, .depths = PerStage({1, 1})}},
           {"regnety_002", {.num_classes = 3, .img_size = 48}}}) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    const Model model = create_model(name, options);
    PretrainedConfig images = other_images;
    images.input_size = model.pretrained_config().input_size;
    const std::vector<std::string> labels{"cat", "dog", "owl"};
    save_weights(folder / "theirs", model, images, labels, WeightLayout::huggingface);
    const LoadedModel loaded = load_model(folder / "theirs");
    save_weights(folder / "back", loaded.model, loaded.preprocessing, loaded.label_names);
    const LoadedModel back = load_model(folder / "back");
    Tensor batch = empty({2, 3, images.input_size[1], images.input_size[2]});
    fill_normal(batch, 0, 1, {5, Purpose::test, 1});
    const auto expected = model(batch).to_vector<float>();
    for (const LoadedModel* read : {&loaded, &back}) {
      EXPECT_EQ(read->label_names, labels);
      expect_same_images(read->preprocessing, images);
      EXPECT_EQ(read->model(batch).to_vector<float>(), expected);
    }
  }
}

// 49 * (54.0 / 49) is a little less than 54.
TEST(HuggingFaceConfig, NoHiddenFeatureIsLostToRounding) {
  for (std::int64_t hidden = 12; hidden < 60; ++hidden) {
    const TemporaryFolder folder;
    std::ofstream(folder / "config.json") << fmt::format(
        R"({{"model_type": "vit", "hidden_size": 49, "num_attention_heads": 7, "intermediate_size": {}}})", hidden);
    const HuggingFaceModel read = read_huggingface_model(ConfigFile(folder / "config.json"));
    EXPECT_EQ(static_cast<std::int64_t>(49 * *read.options.mlp_ratio), hidden);
  }
}

TEST(HuggingFaceConfig, PublishedRegNetsAreFound) {
  const TemporaryFolder folder;
  for (
      const auto& [config, name] : std::initializer_list<std::pair<const char*, const char*>>{
          {R"({"model_type": "regnet"})", "regnety_040"},  // the defaults of transformers
          {R"({"model_type": "regnet", "hidden_sizes": [24, 56, 152, 368], "depths": [1, 1, 4, 7], "groups_width": 8})",
           "regnety_002"},
          {R"({"model_type": "regnet", "hidden_sizes": [224, 448, 1232, 3024], "depths": [2, 4, 11, 1],
                "groups_width": 112})",
           "regnety_160"}}) {
    std::ofstream(folder / "config.json") << config;
    EXPECT_EQ(read_huggingface_model(ConfigFile(folder / "config.json")).name, name);
  }
}

// ---- The files ----

TEST(HuggingFaceConfig, SaysWhatTransformersAsks) {
  const auto config = [](const char* name, const ModelOptions& options) {
    json all = json::parse(to_huggingface_config(create_model(name, options), {}));
    all.erase("id2label");
    all.erase("label2id");
    return all;
  };
  EXPECT_EQ(config("vit_tiny_patch4_32", small_vit), json::parse(R"({
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "image_size": 32, "patch_size": 4,
    "num_channels": 3, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 48,
    "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": true})"));
  EXPECT_EQ(config("swin_tiny_patch2_window4_32", small_swin), json::parse(R"({
    "model_type": "swin", "architectures": ["SwinForImageClassification"], "image_size": 32, "patch_size": 2,
    "num_channels": 3, "embed_dim": 12, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4, "mlp_ratio": 4.0,
    "hidden_act": "gelu", "layer_norm_eps": 1e-5, "qkv_bias": true, "use_absolute_embeddings": false})"));
  EXPECT_EQ(config("resnet50", {.depths = PerStage({1, 2})}), json::parse(R"({
    "model_type": "resnet", "architectures": ["ResNetForImageClassification"], "num_channels": 3, "embedding_size": 64,
    "hidden_sizes": [256, 512], "depths": [1, 2], "layer_type": "bottleneck", "hidden_act": "relu",
    "downsample_in_first_stage": false, "downsample_in_bottleneck": false})"));
  EXPECT_EQ(config("regnety_002", {}), json::parse(R"({
    "model_type": "regnet", "architectures": ["RegNetForImageClassification"], "num_channels": 3, "embedding_size": 32,
    "hidden_sizes": [24, 56, 152, 368], "depths": [1, 1, 4, 7], "groups_width": 8, "layer_type": "y",
    "hidden_act": "relu", "downsample_in_first_stage": true})"));
  EXPECT_EQ(config("cvt_13_224", {.embed_dim = 16}), json::parse(R"({
    "model_type": "cvt", "architectures": ["CvtForImageClassification"], "num_channels": 3, "patch_sizes": [7, 3, 3],
    "patch_stride": [4, 2, 2], "patch_padding": [2, 1, 1], "embed_dim": [16, 48, 96], "num_heads": [1, 3, 6],
    "depth": [1, 2, 10], "mlp_ratio": [4.0, 4.0, 4.0], "qkv_bias": [true, true, true],
    "cls_token": [false, false, true], "qkv_projection_method": ["dw_bn", "dw_bn", "dw_bn"],
    "kernel_qkv": [3, 3, 3], "padding_kv": [1, 1, 1], "stride_kv": [2, 2, 2], "padding_q": [1, 1, 1],
    "stride_q": [1, 1, 1]})"));
  const json deit = config("deit_tiny_distilled_patch4_32", small_vit);
  EXPECT_EQ(deit["model_type"], "deit");
  EXPECT_EQ(deit["architectures"], std::vector{"DeiTForImageClassificationWithTeacher"});
}

TEST(HuggingFaceConfig, ImagesArePreparedAsHere) {
  PretrainedConfig images = other_images;
  images.input_size = {3, 48, 48};
  EXPECT_EQ(json::parse(to_huggingface_preprocessing(images)), json::parse(fmt::format(R"({{
    "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": true, "do_resize": true,
    "size": {{"shortest_edge": 57}}, "resample": 2, "do_center_crop": true,
    "crop_size": {{"height": 48, "width": 48}}, "crop_pct": 0.83, "do_rescale": true, "rescale_factor": {},
    "do_normalize": true, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}})",
                                                                                       1.0 / 255)));
  images.interpolation = "bicubic";
  EXPECT_EQ(json::parse(to_huggingface_preprocessing(images))["resample"], 3);
}

TEST(HuggingFaceConfig, EveryOutputHasALabel) {
  for (const auto& [given, written] :
       std::initializer_list<std::pair<std::vector<std::string>, std::vector<std::string>>>{
           {{}, {"LABEL_0", "LABEL_1", "LABEL_2"}},
           {{"cat", "LABEL_1", "owl"}, {"cat", "LABEL_1", "owl"}},
           {{"cat"}, {"cat", "LABEL_1", "LABEL_2"}}}) {
    const TemporaryFolder folder;
    const Model model = create_model("vit_tiny_patch4_32", small_vit);
    save_weights(folder.path(), model, model.pretrained_config(), given, WeightLayout::huggingface);
    const json config = parsed(folder / "config.json");
    EXPECT_EQ(config["id2label"].size(), written.size());
    EXPECT_EQ(config["label2id"].size(), written.size());
    for (std::size_t i = 0; i < written.size(); ++i) {
      EXPECT_EQ(config["id2label"][std::to_string(i)], written[i]);
      EXPECT_EQ(config["label2id"][written[i]], i);
    }
    EXPECT_EQ(load_model(folder.path()).label_names, given);
  }
}

TEST(HuggingFaceConfig, AModelWithoutHeadHasNoLabels) {
  const TemporaryFolder folder;
  const Model model = create_model("vit_tiny_patch4_32", {.num_classes = 0, .embed_dim = 12, .depth = 1});
  save_weights(folder.path(), model, model.pretrained_config(), {}, WeightLayout::huggingface);
  EXPECT_EQ(load_model(folder.path()).model.classes(), 0);
}

// ---- What transformers cannot be told ----

TEST(HuggingFaceConfig, WhatTransformersCannotBuildIsAnError) {
  ModelOptions fixed = small_swin, absolute = small_swin, epsilon = small_swin, deep = small_swin, padded = small_swin,
               one_head = small_vit;
  fixed.shift = false;
  absolute.position = "absolute";
  epsilon.norm_eps = 1e-6;
  deep.depths = PerStage({1, 1, 1, 1});  // maps of 16, 8, 4 and 2 places a side
  deep.num_heads = PerStage({1, 1, 1, 1});
  padded.img_size = 36;  // 18 places a side, to be padded to 20
  one_head.distilled_head = "class";
  const char* swin = "swin_tiny_patch2_window4_32";
  for (const auto& [name, options, message] : std::initializer_list<std::tuple<const char*, ModelOptions, const char*>>{
           {swin, fixed, "shift is false, expected true"},
           {swin, absolute, "position is \"absolute\", expected relative or both"},
           {swin, epsilon, "norm_eps is 1e-06, expected 1e-05"},
           {swin, deep, "window_size is 4, expected a divisor of 2"},
           {swin, padded, "window_size is 4, expected a divisor of 9"},
           {"deit_tiny_distilled_patch4_32", one_head, "distilled_head is \"class\", expected \"both\""},
           {"resnet18_cifar", {}, "has a stem for small images, expected that of resnet18"},
           {"vit_tiny_r_s16_p8_224", {.embed_dim = 12, .depth = 1}, "is a hybrid, expected a ViT"}}) {
    const Model model = create_model(name, options);
    EXPECT_EQ(error_of([&, &m = model] { to_huggingface_config(m, {}); }).find(fmt::format("{}: {}", name, message)),
              0u)
        << name << ", " << message;
  }
  const TemporaryFolder folder;
  const Model model = create_model(swin, fixed);
  const auto save = [&](WeightLayout layout) {
    return error_of([&] { save_weights(folder / "new", model, model.pretrained_config(), {}, layout); });
  };
  EXPECT_TRUE(contains(save(WeightLayout::huggingface), "shift is false"));
  EXPECT_TRUE(
      contains(save(WeightLayout::torchvision), "torchvision has no config.json, expected timm or huggingface"));
  EXPECT_FALSE(fs::exists(folder / "new"));
}

}  // namespace
}  // namespace vitrine
