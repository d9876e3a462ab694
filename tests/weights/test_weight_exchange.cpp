// Weights of other libraries where users meet them: folders of Hugging Face, and the flags of
// training.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/data/data_fixtures.h"
#include "tests/support/expectations.h"
#include "train/trainer.h"
#include "weights/files/safetensors.h"
#include "weights/huggingface/config.h"
#include "weights/model_folder.h"
#include "weights/names/weight_layouts.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;
using vitrine::testing::TemporaryFolder;

void write_text(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

Tensor random_images(std::int64_t side) {
  Tensor images = empty({2, 3, side, side});
  fill_normal(images, 0, 1, {5, Purpose::test, 1});
  return images;
}

/// The folder as Hugging Face would have it: its names, its config.json.
void write_folder(const fs::path& folder, const Model& model, const std::string& config) {
  fs::create_directories(folder);
  write_safetensors(folder / "model.safetensors", to_layout(model.state_dict(), WeightLayout::huggingface));
  write_text(folder / "config.json", config);
}

const char* const vit_config =
    R"({"model_type": "vit", "architectures": ["ViTForImageClassification"], "image_size": 32,
  "patch_size": 8, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 24,
  "id2label": {"0": "cat", "2": "owl", "1": "dog"}, "layer_norm_eps": 0.01, "hidden_act": "gelu"})";
const ModelOptions vit_options{.num_classes = 3,
                               .patch_size = 8,
                               .embed_dim = 12,
                               .depth = 2,
                               .num_heads = PerStage(3),
                               .mlp_ratio = 2,
                               .norm_eps = 0.01};

void expect_same_logits(const LoadedModel& loaded, const Model& model, std::int64_t side) {
  const Tensor images = random_images(side);
  EXPECT_EQ(loaded.model(images).to_vector<float>(), model(images).to_vector<float>());
}

TEST(WeightExchange, FoldersOfHuggingFaceAreObeyed) {
  const TemporaryFolder folder;
  const Model vit = create_model("vit_tiny_patch4_32", vit_options);
  write_folder(folder.path(), vit, vit_config);
  write_text(folder / "preprocessor_config.json", R"({"image_mean": [0.1, 0.2, 0.3], "resample": 2, "crop_pct": 0.8})");
  const LoadedModel loaded = load_model(folder.path());
  EXPECT_EQ(loaded.label_names, (std::vector<std::string>{"cat", "dog", "owl"}));
  EXPECT_EQ(loaded.preprocessing.mean[2], 0.3);
  EXPECT_EQ(loaded.preprocessing.interpolation, "bilinear");
  EXPECT_EQ(loaded.preprocessing.crop_pct, 0.8);
  EXPECT_EQ(loaded.preprocessing.input_size[2], 32);
  ASSERT_EQ(loaded.notes.size(), 1u);
  EXPECT_TRUE(contains(loaded.notes[0], "under the names of Hugging Face's ViT")) << loaded.notes[0];
  expect_same_logits(loaded, vit, 32);
}

TEST(WeightExchange, EveryArchitectureOfHuggingFace) {
  const TemporaryFolder folder;
  const Model deit = create_model("deit_tiny_distilled_patch4_32", vit_options);
  std::string config = vit_config;
  config.replace(config.find("\"vit\""), 5, "\"deit\"");
  config.replace(config.find("ViTForImageClassification"), 25, "DeiTForImageClassificationWithTeacher");
  write_folder(folder / "deit", deit, config);
  expect_same_logits(load_model(folder / "deit"), deit, 32);

  const Model swin = create_model("swin_tiny_patch2_window4_32", {.num_classes = 2,
                                                                  .embed_dim = 12,
                                                                  .depths = PerStage({1, 2}),
                                                                  .num_heads = PerStage({1, 2}),
                                                                  .position = "both"});
  write_folder(folder / "swin", swin,
               R"({"model_type": "swin", "image_size": 32, "patch_size": 2, "embed_dim": 12, "depths": [1, 2],
                   "num_heads": [1, 2], "window_size": 4, "use_absolute_embeddings": true})");
  expect_same_logits(load_model(folder / "swin"), swin, 32);

  const Model cvt = create_model("cvt_13_224", {.num_classes = 2, .embed_dim = 4, .depths = PerStage({1, 1, 1})});
  write_folder(folder / "cvt", cvt, R"({"model_type": "cvt", "embed_dim": [4, 12, 24], "depth": [1, 1, 1]})");
  expect_same_logits(load_model(folder / "cvt"), cvt, 32);

  const Model resnet = create_model("resnet18", {.num_classes = 2, .depths = PerStage({1, 1, 1, 1})});
  write_folder(folder / "resnet", resnet, R"({"model_type": "resnet", "layer_type": "basic", "depths": [1, 1, 1, 1],
                                              "hidden_sizes": [64, 128, 256, 512]})");
  expect_same_logits(load_model(folder / "resnet"), resnet, 32);
}

// As microsoft/cvt-13 and microsoft/cvt-13-384 have it.
TEST(WeightExchange, ConvNextsProcessorNamesWhatTheModelSees) {
  const TemporaryFolder folder;
  for (const auto& [size, side, crop_pct] : std::initializer_list<std::tuple<const char*, std::int64_t, double>>{
           {R"({"shortest_edge": 224})", 224, 0.875}, {R"({"shortest_edge": 384})", 384, 1}, {"384", 384, 1}}) {
    write_text(folder / "preprocessor_config.json",
               fmt::format(R"({{"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "size": {}}})",
                           size));
    const PretrainedConfig read = read_huggingface_preprocessing(folder.path(), {.crop_pct = 0.9});
    EXPECT_EQ(read.input_size, (std::array<std::int64_t, 3>{3, side, side}));
    EXPECT_EQ(read.crop_pct, crop_pct);
  }
}

// timm's save_config_for_hf writes one name as text, and those of a distilled model as a list.
TEST(WeightExchange, ADistilledModelHasTwoClassifiersInItsConfig) {
  const TemporaryFolder folder;
  const auto classifier_of = [&](const char* name) {
    const Model model = create_model(name, vit_options);
    save_weights(folder / name, model, model.pretrained_config(), {});
    expect_same_logits(load_model(folder / name), model, 32);
    std::ifstream file(folder / name / "config.json");
    return nlohmann::json::parse(file).at("pretrained_cfg").at("classifier");
  };
  EXPECT_EQ(classifier_of("deit_tiny_distilled_patch4_32"), (std::vector<std::string>{"head", "head_dist"}));
  EXPECT_EQ(classifier_of("deit_tiny_patch4_32"), "head");
}

// model_args of timm's own config.json files.
TEST(WeightExchange, FoldersOfTimmAreObeyed) {
  const TemporaryFolder folder;
  const Model model = create_model("vit_tiny_patch4_32", {.num_classes = 3, .img_size = 16, .depth = 1});
  write_safetensors(folder / "model.safetensors", model.state_dict());
  write_text(folder / "config.json", R"({"architecture": "vit_tiny_patch4_32", "num_classes": 3,
    "model_args": {"img_size": [16, 16], "in_chans": 3, "num_classes": 3, "depth": 1}})");
  expect_same_logits(load_model(folder.path()), model, 16);
  const Model grey = create_model("vit_tiny_patch4_32", {.num_classes = 3, .img_size = 16, .in_chans = 1, .depth = 1});
  write_safetensors(folder / "model.safetensors", grey.state_dict());
  write_text(folder / "config.json", R"({"architecture": "vit_tiny_patch4_32", "num_classes": 3,
    "model_args": {"img_size": 16, "in_chans": 1, "depth": 1}})");
  expect_same_logits(load_model(folder.path()), grey, 16);  // of colours, as images are handed out
  for (const char* args : {R"({"img_size": [16, 8]})", R"({"in_chans": "grey"})"}) {
    write_text(folder / "config.json",
               fmt::format(R"({{"architecture": "vit_tiny_patch4_32", "model_args": {}}})", args));
    EXPECT_TRUE(contains(error_of([&] { load_model(folder.path()); }), "config.json: model_args")) << args;
  }
}

TEST(WeightExchange, WhatNoModelHasIsAnError) {
  const TemporaryFolder folder;
  for (const auto& [config, message] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"({"model_type": "bert"})",
            "config.json: model_type: is \"bert\", expected vit, deit, swin, cvt, resnet or regnet"},
           {R"({"model_type": "vit", "hidden_act": "relu"})", "config.json: hidden_act: is relu, expected gelu"},
           {R"({"model_type": "vit", "num_channels": 1})", "num_channels: is 1, expected 3"},
           {R"({"model_type": "vit", "hidden_size": "a"})", "hidden_size is \"a\", which has the wrong type"},
           {R"({"model_type": "vit", "id2label": {"a": "b"}})", "id2label: has the key \"a\", expected numbers"},
           {R"({"model_type": "vit", "id2label": {"1": "b"}})",
            "id2label: has 1 labels, of which the last is number 1"},
           {R"({"model_type": "deit", "architectures": ["DeiTForImageClassification"]})",
            "architectures: is DeiTForImageClassification, expected DeiTForImageClassificationWithTeacher"},
           {R"({"model_type": "resnet", "hidden_sizes": [8, 16, 32, 64]})",
            "config.json: hidden_sizes: is 8 16 32 64, expected 256 512 1024 2048, as ResNet-18"},
           {R"({"model_type": "cvt", "embed_dim": [64, 192, 400]})",
            "config.json: embed_dim: is [64, 192, 400], expected [64, 192, 384]"},
           {R"({"model_type": "cvt", "stride_kv": [1, 1, 1]})", "stride_kv: is [1, 1, 1], expected [2, 2, 2]"},
           {R"({"model_type": "cvt", "cls_token": [false, false, false]})",
            "cls_token: is [0, 0, 0], expected [0, 0, 1]"},
           {R"({"model_type": "cvt", "embed_dim": []})", "embed_dim: is , expected a multiple of num_heads, 1 3 6"},
           {R"({"model_type": "cvt", "patch_sizes": [3, 3, 3]})", "patch_stride: is [4, 2, 2], expected"},
           {R"({"model_type": "regnet", "layer_type": "x"})", "config.json: layer_type: is x, expected y"},
           {R"({"model_type": "regnet", "downsample_in_first_stage": false})",
            "downsample_in_first_stage: is false, expected true"},
           {R"({"model_type": "regnet", "groups_width": 8})",
            "hidden_sizes: is 128 192 512 1088, of groups of 8, expected those of one of regnety_002, regnety_004"},
           {R"({"architecture": "vit_tiny_patch4_32", "num_classes": -7})",
            "config.json: num_classes: is -7, expected 0"},
           {R"({"architecture": "vit_tiny_patch4_32", "num_classes": 1e30})",
            "num_classes is 1e+30, which has the wrong"},
           {R"({"architecture": "vit_tiny_patch4_32", "model_args": {"embed_dim": -12}})",
            "config.json: architecture: vit: dim -12 is not a multiple of heads 3"},
           {R"({})", "architecture: is missing"}}) {
    write_text(folder / "config.json", config);
    const std::string text = error_of([&] { load_model(folder.path()); });
    EXPECT_TRUE(contains(text, message)) << config << " gave: " << text;
  }
}

// ---- Training ----

struct Listener : TrainObserver {
  std::string notes;
  void note(const std::string& line) override { notes += line + "\n"; }
};

Recipe recipe_in(const fs::path& folder) {
  return parse_recipe(
      fmt::format("dataset: shapes\ntrain-num-samples: 8\nval-num-samples: 8\nbatch-size: 8\n"
                  "model: vit_tiny_patch4_32\nwarmup-epochs: 0\noutput: {}\n"
                  "model-kwargs: {{patch_size: 8, embed_dim: 12, depth: 2, num_heads: 3, mlp_ratio: 2}}\n",
                  folder.string()),
      "test recipe");
}

TEST(WeightExchange, TrainingStartsFromOtherLibraries) {
  const TemporaryFolder folder;
  const std::string file = folder / "weights.safetensors";
  ModelOptions options = vit_options;
  options.num_classes = 10;
  options.seed = 7;
  const Model model = create_model("vit_tiny_patch4_32", options);
  write_safetensors(file, to_layout(model.state_dict(), WeightLayout::torchvision));

  Recipe recipe = recipe_in(folder.path());
  recipe.experiment = "strict";
  recipe.initial_checkpoint = file;
  Listener listener;
  Trainer trainer(recipe, listener);
  EXPECT_TRUE(contains(listener.notes, file + ": read 32 tensors under the names of torchvision's ViT"))
      << listener.notes;

  recipe.img_size = 48;
  recipe.experiment = "larger";
  const std::string refusal = error_of([&] { Trainer(recipe, listener); });
  EXPECT_TRUE(contains(refusal, "--initial-checkpoint: " + file)) << refusal;
  EXPECT_TRUE(contains(refusal, "encoder.pos_embedding has shape (1, 17, 12), expected (1, 37, 12)")) << refusal;

  recipe.initial_checkpoint = "";
  recipe.pretrained_path = file;
  recipe.pos_embed_interpolation = "bilinear";
  recipe.num_classes = 12;
  Trainer larger(recipe, listener);
  EXPECT_TRUE(contains(listener.notes, file + ": resized pos_embed from 4 x 4 to 6 x 6 patches (bilinear)"))
      << listener.notes;
  EXPECT_TRUE(contains(listener.notes, file + ": left out head, which is for 10 classes")) << listener.notes;
}

}  // namespace
}  // namespace vitrine
