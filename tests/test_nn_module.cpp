// Modules as lists of fields: names, counts, state dicts, copies; and that no list forgets a member.
#include <gtest/gtest.h>

#include "models/cvt.h"
#include "models/deit.h"
#include "models/hybrid.h"
#include "models/regnet.h"
#include "models/resnet.h"
#include "models/swin.h"
#include "models/vit.h"
#include "nn/image_layers.h"
#include "nn/layers.h"
#include "nn/module.h"

namespace vitrine {
namespace {

// ---- A list of fields against the number of members ----

/// Converts to anything but the aggregate itself, to try braces with so many initialisers.
template <class Aggregate>
struct Anything {
  template <class T>
  requires(!std::same_as<T, Aggregate>) operator T() const;  // never defined
};

template <class Aggregate, std::size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { Aggregate{(static_cast<void>(I), Anything<Aggregate>{})...}; };
}

/// The largest number of initialisers that Aggregate{...} takes: its number of members.
template <class Aggregate, std::size_t Count = 16>
constexpr std::size_t member_count() {
  if constexpr (takes<Aggregate>(std::make_index_sequence<Count>{}))
    return Count;
  else
    return member_count<Aggregate, Count - 1>();
}

template <Module M>
std::size_t listed_count() {
  M module{};
  std::size_t count = 0;
  M::fields(module, [&](std::string_view, auto&) { ++count; });
  return count;
}

struct Forgetful {
  Parameter weight;
  std::optional<Parameter> bias;
  std::vector<Linear> layers;
  double rate = 0;
  static void fields(auto& self, auto&& field) {
    field("weight", self.weight);
    field("layers", self.layers);
    field("rate", self.rate);
  }
};

template <class M>
class Fields : public testing::Test {};
// But ResNet, RegNet, ConvolutionalVisionTransformer and HybridVisionTransformer, which list the elements of a vector or of a
// module one by one.
using AllModules =
    testing::Types<Linear, LayerNorm, Dropout, DropPath, MultiHeadAttention, Mlp, PatchConvolution, PatchEmbed,
                   TransformerBlock, TanhLayer, VisionTransformer, DistilledVisionTransformer, WindowAttention,
                   SwinBlock, PatchMerging, SwinStage, SwinPatchEmbed, SwinHead, SwinTransformer, Conv2d, BatchNorm2d,
                   GroupNorm, MaxPool2d, StdConv2d, ResNetShortcut, ResNetBlock, ConvNorm, SqueezeExcitation,
                   RegNetBlock, HybridShortcut, HybridBlock, HybridStage, HybridBackbone, ConvEmbed, ConvProjection,
                   ConvAttention, CvTBlock, CvTStage>;
TYPED_TEST_SUITE(Fields, AllModules);

TYPED_TEST(Fields, ListEveryMember) { EXPECT_EQ(listed_count<TypeParam>(), member_count<TypeParam>()); }

TEST(FieldsOf, AModuleThatForgetsOneAreFewerThanItsMembers) {
  EXPECT_EQ(member_count<Forgetful>(), 4u);
  EXPECT_EQ(listed_count<Forgetful>(), 3u);
}

// ---- Names ----

struct Network {
  std::vector<Linear> layers;
  std::optional<Linear> head;
  Parameter scale;
  int width = 0;
  static void fields(auto& self, auto&& field) {
    field("layers", self.layers);
    field("head", self.head);
    field("scale", self.scale);
    field("width", self.width);
  }
};

Network make_network(bool with_head, std::uint64_t seed = 1) {
  Initializer init(seed);
  Network network;
  network.layers = {Linear::make(3, 2, init), Linear::make(2, 2, init, false)};
  if (with_head) network.head = Linear::make(2, 5, init);
  network.scale = init.constant({}, 1);
  return network;
}

std::vector<std::string> names_of(const StateDict& state) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : state) names.push_back(name);
  return names;
}

TEST(NnModule, NamesFollowTheFieldsAndNumberVectors) {
  const std::vector<std::string> expected{"layers.0.weight", "layers.0.bias", "layers.1.weight",
                                          "head.weight",     "head.bias",     "scale"};
  EXPECT_EQ(names_of(state_dict(make_network(true))), expected);
  const std::vector<std::string> headless{"layers.0.weight", "layers.0.bias", "layers.1.weight", "scale"};
  EXPECT_EQ(names_of(state_dict(make_network(false))), headless);
  std::vector<std::string> prefixed;
  for_each_parameter(
      make_network(false).layers[0], [&](const std::string& name, const Parameter&) { prefixed.push_back(name); },
      "first");
  EXPECT_EQ(prefixed, (std::vector<std::string>{"first.weight", "first.bias"}));
}

TEST(NnModule, ParameterCountCountsElements) { EXPECT_EQ(parameter_count(make_network(true)), 6 + 2 + 4 + 10 + 5 + 1); }

// ---- State dicts ----

TEST(NnModule, AStateDictLoadsIntoAnotherModule) {
  const Network source = make_network(true, 1);
  Network target = make_network(true, 2);
  const Tensor handle = target.layers[0].weight.value();
  const std::uint64_t version = handle.storage()->version();
  ASSERT_NE(source.layers[0].weight.value().to_vector<float>(), handle.to_vector<float>());
  EXPECT_TRUE(load_state_dict(target, state_dict(source)).clean());
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(state_dict(target)[i].second.to_vector<float>(), state_dict(source)[i].second.to_vector<float>());
  }
  EXPECT_EQ(handle.to_vector<float>(), source.layers[0].weight.value().to_vector<float>());  // in place
  EXPECT_GT(handle.storage()->version(), version);
}

TEST(NnModule, LoadingReportsAllThatDoesNotFit) {
  StateDict state = state_dict(make_network(true, 1));
  state.erase(state.begin());                   // layers.0.weight is missing
  state.emplace_back("extra.bias", ones({3}));  // unexpected
  state[2].second = ones({7, 2});               // head.weight is (5, 2)
  Network target = make_network(true, 2);
  const auto before = target.head->bias->value().to_vector<float>();
  try {
    load_state_dict(target, state);
    FAIL() << "a state dict that does not fit was accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "load_state_dict: missing layers.0.weight; unexpected extra.bias; mismatched: head.weight has shape "
                 "(7, 2), expected (5, 2)");
  }
  EXPECT_EQ(target.head->bias->value().to_vector<float>(), before);  // nothing was changed

  const LoadReport report = load_state_dict(target, state, /*strict=*/false);
  EXPECT_EQ(report.missing, std::vector<std::string>{"layers.0.weight"});
  EXPECT_EQ(report.unexpected, std::vector<std::string>{"extra.bias"});
  ASSERT_EQ(report.mismatched.size(), 1u);
  EXPECT_EQ(report.mismatched[0].found, (Shape{7, 2}));
  EXPECT_EQ(target.head->bias->value().to_vector<float>(),
            make_network(true, 1).head->bias->value().to_vector<float>());
}

TEST(NnModule, LoadingRefusesANameThatOccursTwice) {
  Network target = make_network(false);
  StateDict state = state_dict(make_network(false, 2));
  state.push_back(state[0]);
  EXPECT_THROW(load_state_dict(target, state, false), Error);
}

// ---- Copies ----

TEST(NnModule, ADeepCopyHasElementsOfItsOwn) {
  Network network = make_network(true);
  Network shared = network, copy = deep_copy(network);
  fill(network.layers[0].weight.value(), 7);
  EXPECT_EQ(shared.layers[0].weight.value().to_vector<float>()[0], 7);
  EXPECT_NE(copy.layers[0].weight.value().to_vector<float>()[0], 7);
  EXPECT_EQ(copy.layers[1].weight.value().to_vector<float>(), network.layers[1].weight.value().to_vector<float>());
}

TEST(NnModule, CastConvertsEveryParameter) {
  Network network = make_network(true);
  const float value = network.head->weight.value().to_vector<float>()[3];
  cast_to(network, DType::f64);
  for (const auto& [name, tensor] : state_dict(network)) EXPECT_EQ(tensor.dtype(), DType::f64) << name;
  EXPECT_EQ(network.head->weight.value().to_vector<double>()[3], static_cast<double>(value));
}

}  // namespace
}  // namespace vitrine
