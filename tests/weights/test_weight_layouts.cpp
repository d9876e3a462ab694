// Weights of torchvision, Hugging Face and Swin's authors load by name and give the logits and
// gradients of their libraries, and ours go back under those names; tests/golden/make_layouts.py
// made the files.
#include "weights/names/weight_layouts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "models/cvt.h"
#include "models/deit.h"
#include "models/regnet.h"
#include "models/resnet.h"
#include "models/swin.h"
#include "tests/support/golden_model.h"
#include "weights/load_weights.h"
#include "weights/names/name_pattern.h"

namespace vitrine {
namespace {

// ---- Patterns ----

TEST(NamePattern, ComputesNumbers) {
  const NamePattern theirs("features.{2s+2}.{j}.norm.*"), ours("layers.{s+1}.blocks.{j}.norm.*");
  const auto found = theirs.match("features.6.10.norm.weight");
  ASSERT_TRUE(found);
  EXPECT_EQ(ours.fill(*found), "layers.3.blocks.10.norm.weight");
  EXPECT_EQ(theirs.fill(*ours.match("layers.1.blocks.0.norm.bias")), "features.2.0.norm.bias");
  for (const char* name : {"features.5.0.norm.weight", "features.0.0.norm.weight", "features.02.0.norm.weight",
                           "features.-2.0.norm.weight", "features.2.0.norm.", "features.2.0.norm.a.b",
                           "xfeatures.2.0.norm.a", "features.2.0.norm", "layers.0.blocks.0.norm.weight"}) {
    EXPECT_FALSE(theirs.match(name)) << name;
    EXPECT_FALSE(ours.match(name)) << name;
  }
  EXPECT_FALSE(NamePattern("a{i}.{i}").match("a1.2"));
  EXPECT_TRUE(NamePattern("a{i}.{i}").match("a2.2"));
}

TEST(NamePattern, KnowsWhichWordItIs) {
  const NamePattern pattern("attention.[query|key|value].*");
  EXPECT_EQ(pattern.parts(), 3u);
  const auto found = pattern.match("attention.value.bias");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->part, 2u);
  EXPECT_EQ(pattern.fill(*found), "attention.value.bias");
  EXPECT_FALSE(pattern.match("attention.values.bias"));
  EXPECT_THROW(NamePattern("a.{2s+1"), Error);
  EXPECT_THROW(NamePattern("a.*.b"), Error);
  EXPECT_THROW(NamePattern("a.{s-1}"), Error);
}

// ---- Logits and gradients of the other libraries ----

const ViTConfig vit{.image = 12, .patch = 4, .classes = 5, .dim = 8, .depth = 2, .heads = 2, .mlp_ratio = 2};
ViTConfig vit_with_representation() {
  ViTConfig config = vit;
  config.representation_size = 6;
  return config;
}
SwinConfig swin(std::int64_t window, SwinPosition position = SwinPosition::relative) {
  return {.image = 16,
          .patch = 2,
          .classes = 5,
          .dim = 8,
          .depths = {2, 2},
          .heads = {1, 2},
          .window = window,
          .mlp_ratio = 2,
          .position = position};
}
ResNetConfig resnet(bool bottleneck) {
  return {.image = 20, .classes = 5, .depths = {1, 2}, .width = 4, .bottleneck = bottleneck};
}

const RegNetConfig regnet{.image = 33,
                          .classes = 5,
                          .depth = 5,
                          .first_width = 8,
                          .slope = 5,
                          .multiplier = 1.7,
                          .group_width = 8,
                          .stem_width = 10};

/// Widths 8 and 16, depths 1 and 2.
RegNetConfig small_regnet() {
  RegNetConfig config = regnet;
  config.image = 20;
  config.depth = 3;
  config.slope = 4;
  config.group_width = 4;
  return config;
}

/// The tensors of a golden file whose names begin with one of the prefixes, without these.
StateDict tensors_of(const std::string& file_name, const std::vector<std::string>& prefixes) {
  StateDict state;
  for (const auto& [name, tensor] : read_safetensors(source_dir() + "/tests/golden/" + file_name)) {
    for (const std::string& prefix : prefixes) {
      if (name.starts_with(prefix)) state.emplace_back(name.substr(prefix.size()), tensor);
    }
  }
  return state;
}
StateDict weights_of(const std::string& file_name) { return tensors_of(file_name, {"param.", "buffer."}); }

template <class M>
void compare_with_library(const std::string& file_name, M model, DType dtype, double bound) {
  const auto file = read_safetensors(source_dir() + "/tests/golden/" + file_name);
  load_weights(model, weights_of(file_name));  // strict: throws where a name is missing or too many
  Tape tape;
  Tensor logits;
  if constexpr (std::is_same_v<M, ResNet>) {
    logits = model(cast_data(file.at("images"), dtype), Pass{});
  } else {
    logits = model(cast_data(file.at("images"), dtype));
  }
  EXPECT_TRUE(relative_error(logits, file.at("logits")) <= bound) << relative_error(logits, file.at("logits"));
  const Tensor loss = cross_entropy(logits, file.at("labels"));
  EXPECT_TRUE(relative_error(loss, file.at("loss")) <= bound) << relative_error(loss, file.at("loss"));
  const Gradients gradients = tape.backward(loss);
  std::map<std::string, Tensor> expected;
  for (const auto& [name, tensor] : to_our_layout(tensors_of(file_name, {"grad."})).state) expected[name] = tensor;
  std::size_t compared = 0;
  for_each_parameter(model, [&](const std::string& name, const Parameter& p) {
    ASSERT_TRUE(expected.contains(name)) << name;
    const double error = gradient_error(gradients[p], expected.at(name));
    EXPECT_TRUE(error <= bound) << name << ": " << error;
    ++compared;
  });
  EXPECT_EQ(compared, expected.size());
}

/// With both precisions.
template <class M, class Config>
void compare_in_both(const std::string& file_name, const Config& config) {
  compare_with_library(file_name, M::make(config, Initializer(1, DType::f64)), DType::f64, 1e-10);
  compare_with_library(file_name, M::make(config, Initializer(1)), DType::f32, 1e-5);
}

TEST(WeightLayouts, TorchvisionViT) {
  compare_in_both<VisionTransformer>("layout_vit_torchvision.safetensors", vit_with_representation());
}
TEST(WeightLayouts, TorchvisionSwin) {
  compare_in_both<SwinTransformer>("layout_swin_torchvision.safetensors", swin(2));
}
TEST(WeightLayouts, TorchvisionRegNet) { compare_in_both<RegNet>("regnet_torchvision.safetensors", regnet); }
TEST(WeightLayouts, HuggingFaceViT) { compare_in_both<VisionTransformer>("layout_vit_huggingface.safetensors", vit); }
TEST(WeightLayouts, HuggingFaceDistilledDeiT) {
  compare_in_both<DistilledVisionTransformer>("layout_deit_huggingface.safetensors", DistilledConfig{.vit = vit});
}
TEST(WeightLayouts, HuggingFaceSwin) {
  compare_in_both<SwinTransformer>("layout_swin_huggingface.safetensors", swin(2, SwinPosition::both));
}
TEST(WeightLayouts, HuggingFaceCvT) {
  const CvTConfig cvt{.image = 24, .classes = 5, .depths = {1, 2, 3}, .heads = {1, 2, 3}, .dim = 4, .mlp_ratio = 2};
  compare_in_both<ConvolutionalVisionTransformer>("layout_cvt_huggingface.safetensors", cvt);
}
TEST(WeightLayouts, HuggingFaceResNet) {
  compare_in_both<ResNet>("layout_resnet_basic_huggingface.safetensors", resnet(false));
  compare_in_both<ResNet>("layout_resnet_bottleneck_huggingface.safetensors", resnet(true));
}
TEST(WeightLayouts, HuggingFaceRegNet) {
  compare_in_both<RegNet>("layout_regnet_huggingface.safetensors", small_regnet());
}
TEST(WeightLayouts, MicrosoftSwin) { compare_in_both<SwinTransformer>("layout_swin_microsoft.safetensors", swin(4)); }

// ---- There and back ----

/// The same names, and bit for bit the same values.
void expect_same(StateDict actual, StateDict expected) {
  const auto by_name = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::ranges::sort(actual, by_name);
  std::ranges::sort(expected, by_name);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(actual[i].first, expected[i].first);
    EXPECT_EQ(actual[i].second.shape(), expected[i].second.shape()) << actual[i].first;
    EXPECT_EQ(relative_error(actual[i].second, expected[i].second), 0) << actual[i].first;
  }
}

TEST(WeightLayouts, OursGoBackToTheNamesOfTheFile) {
  for (const auto& [file, layout] : std::initializer_list<std::pair<const char*, WeightLayout>>{
           {"layout_vit_torchvision.safetensors", WeightLayout::torchvision},
           {"layout_swin_torchvision.safetensors", WeightLayout::torchvision},
           {"regnet_torchvision.safetensors", WeightLayout::torchvision},
           {"layout_vit_huggingface.safetensors", WeightLayout::huggingface},
           {"layout_deit_huggingface.safetensors", WeightLayout::huggingface},
           {"layout_swin_huggingface.safetensors", WeightLayout::huggingface},
           {"layout_cvt_huggingface.safetensors", WeightLayout::huggingface},
           {"layout_resnet_basic_huggingface.safetensors", WeightLayout::huggingface},
           {"layout_resnet_bottleneck_huggingface.safetensors", WeightLayout::huggingface},
           {"layout_regnet_huggingface.safetensors", WeightLayout::huggingface}}) {
    SCOPED_TRACE(file);
    const StateDict weights = weights_of(file);
    const TranslatedWeights ours = to_our_layout(weights);
    EXPECT_TRUE(ours.unknown.empty());
    expect_same(to_layout(ours.state, layout), weights);
  }
}

TEST(WeightLayouts, EveryArchitectureGoesThereAndBack) {
  for (const auto& [name, options, layouts] :
       std::initializer_list<std::tuple<const char*, ModelOptions, std::vector<WeightLayout>>>{
           {"vit_tiny_patch4_32",
            {.embed_dim = 12, .depth = 2},
            {WeightLayout::torchvision, WeightLayout::huggingface}},
           {"deit_tiny_distilled_patch4_32", {.embed_dim = 12, .depth = 2}, {WeightLayout::huggingface}},
           {"swin_tiny_patch2_window4_32",
            {.embed_dim = 12, .depths = PerStage({1, 2, 1, 1})},
            {WeightLayout::torchvision, WeightLayout::huggingface}},
           {"cvt_13_32", {.embed_dim = 4}, {WeightLayout::huggingface}},
           {"resnet18_cifar", {}, {WeightLayout::torchvision, WeightLayout::huggingface}},
           {"regnety_002", {}, {WeightLayout::torchvision, WeightLayout::huggingface}}}) {
    const StateDict ours = create_model(name, options).state_dict();
    EXPECT_EQ(to_our_layout(ours).description(), "timm") << name;
    expect_same(to_our_layout(ours).state, ours);
    expect_same(to_layout(ours, WeightLayout::timm), ours);
    for (const WeightLayout layout : layouts) {
      SCOPED_TRACE(name);
      const StateDict theirs = to_layout(ours, layout);
      EXPECT_TRUE(theirs.size() >= ours.size());
      expect_same(to_our_layout(theirs).state, ours);
    }
  }
}

TEST(WeightLayouts, NamesOfTransformersInMemoryAreKnown) {
  for (const char* file : {"layout_vit_huggingface.safetensors", "layout_deit_huggingface.safetensors",
                           "layout_swin_huggingface.safetensors"}) {
    SCOPED_TRACE(file);
    const TranslatedWeights in_memory = to_our_layout(tensors_of(file, {"memory."}));
    EXPECT_TRUE(contains(in_memory.description(), "in memory"));
    EXPECT_TRUE(in_memory.unknown.empty());
    expect_same(in_memory.state, to_our_layout(weights_of(file)).state);
  }
}

TEST(WeightLayouts, AFileOfTheModelWithoutItsHeadHasNoBase) {
  StateDict bare;
  for (const auto& [name, tensor] : weights_of("layout_vit_huggingface.safetensors")) {
    if (name.starts_with("vit.")) bare.emplace_back(name.substr(4), tensor);
  }
  auto model = VisionTransformer::make(vit, Initializer(1));
  EXPECT_EQ(load_weights(model, bare, {.strict = false}).report.missing,
            (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
  bare.erase(std::ranges::find(bare, "encoder.layer.1.attention.attention.key.bias", &StateDict::value_type::first));
  EXPECT_TRUE(contains(to_string(load_weights(model, bare, {.strict = false}).report),
                       "missing encoder.layer.1.attention.attention.key.bias"));
}

TEST(WeightLayouts, AReadFileIsNamed) {
  auto model = RegNet::make(regnet, Initializer(1));
  const StateDict weights = weights_of("regnet_torchvision.safetensors");
  EXPECT_EQ(load_weights(model, weights).notes,
            (std::vector{fmt::format("read {} tensors under the names of torchvision's RegNet", weights.size())}));
}

// google/vit-base-patch16-224-in21k and its likes: transformers' ViTModel, without "vit." and
// without a classifier.
TEST(WeightLayouts, ThePoolerOfHuggingFaceIsLeftOutAndSaid) {
  const Tensor square = ones({8, 8}), line = ones({8});
  StateDict with_pooler = weights_of("layout_vit_huggingface.safetensors"), bare;
  for (const auto& [name, tensor] : with_pooler) {
    if (name.starts_with("vit.")) bare.emplace_back(name.substr(4), tensor);
  }
  bare.emplace_back("pooler.dense.bias", line);
  bare.emplace_back("pooler.dense.weight", square);
  ViTConfig headless = vit;
  headless.classes = 0;
  auto features = VisionTransformer::make(headless, Initializer(1));
  const std::string ending = ": classifiers see the class token itself, here as in transformers";
  const std::vector<std::string> notes = load_weights(features, bare).notes;  // strict
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_EQ(notes[0], fmt::format("read {} tensors under the names of Hugging Face's ViT", bare.size() - 2));
  EXPECT_EQ(notes[1], "left out pooler.dense.bias, pooler.dense.weight" + ending);
  EXPECT_TRUE(to_our_layout(bare).unknown.empty());

  auto model = VisionTransformer::make(vit, Initializer(1));
  with_pooler.emplace_back("vit.pooler.dense.weight", square);
  EXPECT_EQ(load_weights(model, with_pooler).notes.at(1), "left out vit.pooler.dense.weight" + ending);
  with_pooler.emplace_back("vit.pooler.weight", square);  // not a name that transformers has
  EXPECT_TRUE(contains(error_of([&] { load_weights(model, with_pooler); }), "unexpected vit.pooler.weight"));

  StateDict distilled = weights_of("layout_deit_huggingface.safetensors");
  distilled.emplace_back("deit.pooler.dense.weight", square);
  auto deit = DistilledVisionTransformer::make({.vit = vit}, Initializer(1));
  EXPECT_EQ(load_weights(deit, distilled).notes.at(1), "left out deit.pooler.dense.weight" + ending);
}

TEST(WeightLayouts, OlderNamesOfTorchvision) {
  const StateDict weights = weights_of("layout_vit_torchvision.safetensors");
  StateDict old = weights;
  for (auto& [name, tensor] : old) {
    for (const auto& [from, to] : {std::pair{"mlp.0.", "mlp.linear_1."}, {"mlp.3.", "mlp.linear_2."}}) {
      if (const auto at = name.find(from); at != std::string::npos) name.replace(at, 6, to);
    }
  }
  expect_same(to_our_layout(old).state, to_our_layout(weights).state);
}

// ---- What does not fit ----

/// The message of strict loading, after `change` on the weights of a file; nothing may have changed
/// in the model.
template <class M, class Change>
std::string message_after(const std::string& file, M model, const Change& change) {
  StateDict weights = weights_of(file);
  change(weights);
  const M before = deep_copy(model);
  const std::string message = error_of([&] { load_weights(model, weights); });
  expect_same(state_dict(model), state_dict(before));
  return message;
}

auto& find_in(StateDict& weights, const std::string& name) {
  return *std::ranges::find(weights, name, &StateDict::value_type::first);
}

TEST(WeightLayouts, MistakesAreNamedAsInTheFile) {
  const auto hf_vit = [](const auto& change) {
    return message_after("layout_vit_huggingface.safetensors", VisionTransformer::make(vit, Initializer(1)), change);
  };
  const std::string key = "vit.encoder.layer.1.attention.attention.key.weight";
  EXPECT_EQ(hf_vit([&](StateDict& w) { std::erase_if(w, [&](const auto& entry) { return entry.first == key; }); }),
            "load_weights: missing " + key + " (names of Hugging Face's ViT)");
  EXPECT_EQ(hf_vit([&](StateDict& w) { w.emplace_back("vit.encoder.norm.weight", ones({8})); }),
            "load_weights: unexpected vit.encoder.norm.weight (names of Hugging Face's ViT)");
  EXPECT_EQ(hf_vit([&](StateDict& w) {
              w.emplace_back("head.weight", ones({5, 8}));
            }),  // a name of ours, not of theirs
            "load_weights: unexpected head.weight (names of Hugging Face's ViT)");
  EXPECT_EQ(
      hf_vit([&](StateDict& w) {
        find_in(w, "classifier.weight").second = ones({7, 8});
      }),
      "load_weights: mismatched: classifier.weight has shape (7, 8), expected (5, 8) (names of Hugging Face's ViT)");
  EXPECT_TRUE(contains(hf_vit([&](StateDict& w) {
                         find_in(w, key).second = ones({4, 8});
                       }),
                       key + " has shape (4, 8)"));
  EXPECT_TRUE(contains(hf_vit([](StateDict& w) {
                         for (const char* part : {"query", "key", "value"}) {
                           const std::string name = std::string("vit.encoder.layer.0.attention.attention.") + part;
                           find_in(w, name + ".bias").second = ones({9});
                         }
                       }),
                       "vit.encoder.layer.0.attention.attention.value.bias has shape (9), expected (8)"));

  const auto tv_swin = [](const auto& change) {
    return message_after("layout_swin_torchvision.safetensors", SwinTransformer::make(swin(2), Initializer(1)), change);
  };
  EXPECT_TRUE(contains(tv_swin([](StateDict& w) { find_in(w, "features.2.norm.bias").first = "features.2.norm.bia"; }),
                       "missing features.2.norm.bias; unexpected features.2.norm.bia"));
  const auto of_swin = [](StateDict& w) { w = weights_of("layout_swin_microsoft.safetensors"); };
  EXPECT_TRUE(contains(tv_swin(of_swin), "layers.0.blocks.0.attn.relative_position_bias_table has shape (49, 1)"));
}

TEST(WeightLayouts, WhatALayoutCannotSayIsAnError) {
  const auto error = [](const char* name, const ModelOptions& options, WeightLayout layout) {
    const StateDict ours = create_model(name, options).state_dict();
    return error_of([&] { to_layout(ours, layout); });
  };
  EXPECT_TRUE(contains(error("vit_tiny_patch4_32", {.depth = 1, .global_pool = "avg"}, WeightLayout::torchvision),
                       "fc_norm.weight has no name in torchvision's ViT"));
  EXPECT_TRUE(contains(error("vit_tiny_patch4_32", {.depth = 1, .representation_size = 8}, WeightLayout::huggingface),
                       "pre_logits.fc.weight has no name in Hugging Face's ViT"));
  EXPECT_TRUE(contains(error("deit_tiny_distilled_patch4_32", {.depth = 1}, WeightLayout::torchvision),
                       "torchvision has no distilled DeiT"));
  EXPECT_TRUE(contains(error_of([] {
                         to_layout({{"a", ones({1})}}, WeightLayout::torchvision);
                       }),
                       "expected ViT, DeiT, Swin, CvT, ResNet or RegNet"));
  EXPECT_THROW(weight_layout_from_name("keras"), Error);
  // Names of no known layout are left as they are, for the model to judge.
  EXPECT_EQ(to_our_layout({{"stem.conv.weight", ones({1})}, {"head.fc.weight", ones({1})}}).state.size(), 2u);
}

}  // namespace
}  // namespace vitrine
