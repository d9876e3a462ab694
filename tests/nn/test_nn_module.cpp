// Modules as lists of fields: names, counts, state dicts, copies; and that no list forgets a
// member.
#include <cxxabi.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>

#include "models/families.h"
#include "nn/image_layers.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "tests/support/member_count.h"
#include "tests/support/source_dir.h"

namespace vitrine {
namespace {

// ---- A list of fields against the number of members ----

template <Module M>
std::size_t listed_count(const M& module) {
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

/// A module that lists the elements of a vector, or the fields of a module, as its own.
template <class M>
constexpr bool is_flattened =
    std::same_as<M, DistilledVisionTransformer> || std::same_as<M, HybridVisionTransformer> ||
    std::same_as<M, ConvolutionalVisionTransformer> || std::same_as<M, ResNet> || std::same_as<M, RegNet>;

/// The module in an optional or a vector; void for other types.
template <class T>
struct ModuleIn {
  using Type = std::conditional_t<Module<T>, T, void>;
};
template <class T>
struct ModuleIn<std::optional<T>> : ModuleIn<T> {};
template <class T>
struct ModuleIn<std::vector<T>> : ModuleIn<T> {};

/// "Linear".
template <class M>
std::string type_name() {
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(typeid(M).name(), nullptr, nullptr, nullptr), &std::free);
  return std::string(name.get()).substr(std::string("vitrine::").size());
}

/// Compares the list of fields of M, and of the types of modules among its fields; adds their names
/// to `checked`.
template <Module M>
void check_fields(const M& module, std::set<std::string>& checked) {
  if (!checked.insert(type_name<M>()).second) return;
  if constexpr (!is_flattened<M>) {
    EXPECT_EQ(listed_count(module), member_count<M>()) << type_name<M>();
  }
  M::fields(module, [&]<class T>(std::string_view, const T&) {
    using Inner = typename ModuleIn<T>::Type;
    if constexpr (!std::is_void_v<Inner>) check_fields(Inner{}, checked);
  });
}

/// Every struct in the headers of a folder that has a list of fields.
std::set<std::string> modules_in(const std::string& folder) {
  static const std::regex structure(R"(^struct (\w+)[^;]*\{$)"), list(R"(^  static void fields\(.*)");
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source_dir() + "/" + folder)) {
    if (entry.path().extension() != ".h") continue;
    std::ifstream file(entry.path());
    std::string current;
    for (std::string line; std::getline(file, line);) {
      std::smatch match;
      if (std::regex_match(line, match, structure)) current = match[1];
      if (std::regex_match(line, list)) names.insert(current);
    }
  }
  return names;
}

// From the families by way of their fields' types: a new module is among them, or its name among
// the differences.
TEST(Fields, OfEveryModuleListEveryMember) {
  std::set<std::string> checked;
  Families::for_each([&]<ModelFamily F>() {
    check_fields(F::Model::make(F::catalog().front().config, Initializer::shapes_only()), checked);
  });
  check_fields(MaxPool2d{}, checked);  // which no model has as a layer
  std::set<std::string> in_headers = modules_in("nn");
  in_headers.merge(modules_in("models"));
  for (const std::string& name : in_headers) {
    EXPECT_TRUE(checked.contains(name)) << name << " is in no model of models/families.h: check it here";
  }
  EXPECT_TRUE(checked.contains("WindowAttention") && checked.contains("SqueezeExcitation"));
}

TEST(FieldsOf, AModuleThatForgetsOneAreFewerThanItsMembers) {
  EXPECT_EQ(member_count<Forgetful>(), 4u);
  EXPECT_EQ(listed_count(Forgetful{}), 3u);
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
