// What a model family says of itself, in its own files: options, layers, weight decay, summary and
// named models. From that follow create_model, --model-kwargs with its errors and its help,
// config.json, layer-wise learning rates, `vitrine summary` and `vitrine list-models`.
// models/families.h lists the families; HACKING.md shows how to add one.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "models/family/model_options.h"
#include "models/family/parameter_depth.h"
#include "models/family/pretrained_config.h"
#include "models/family/summary.h"
#include "nn/init.h"
#include "nn/module.h"

namespace vitrine {

/// A model with a name.
template <class Config>
struct CatalogRow {
  std::string name;  // timm's
  Config config;
  PretrainedConfig pretrained;
};

/// The part of a configuration that has `image`, `channels` and `classes`: that of the ViT within,
/// where there is one.
template <class Config>
const auto& image_config(const Config& config) {
  if constexpr (requires { config.vit; })
    return config.vit;
  else
    return config;
}

/// The options of everything that classifies images, for the list of a configuration with the
/// members `classes`, `image`, `channels` and `drop_rate`.
void classifier_options(auto& self, auto&& option) {
  option(&ModelOptions::num_classes, self.classes, "number of classes; 0: features instead of logits");
  option(&ModelOptions::img_size, self.image, "pixels on a side of the images");
  option(&ModelOptions::in_chans, self.channels, "channels of the images; 1 sees the brightness of colours");
  option(&ModelOptions::drop_rate, self.drop_rate, "rate of dropout");
}

namespace detail {

/// Stands for the callables that Config::options is given: (the option, the member that it sets,
/// what it means).
struct AnyOptionVisitor {
  template <class Option, class Member>
  void operator()(std::optional<Option> ModelOptions::*, Member&, const char*) const {}
};

}  // namespace detail

/// An aggregate that lists its options:
///   static void options(auto& self, auto&& option) { option(&ModelOptions::embed_dim, self.dim, "D"); ... }
template <class C>
concept ModelConfiguration = std::is_aggregate_v<C> && requires(C& config) {
  C::options(config, detail::AnyOptionVisitor{});
  { image_config(config).image } -> std::convertible_to<std::int64_t>;
  { image_config(config).channels } -> std::convertible_to<std::int64_t>;
  { image_config(config).classes } -> std::convertible_to<std::int64_t>;
};

/// images (B, C, H, W) -> logits (B, classes), made from a configuration.
template <class M, class Config>
concept ModelOf = Module<M> && requires(const M& model, const Tensor& images, const Pass& pass, Initializer init) {
  { M::make(Config{}, init) } -> std::same_as<M>;
  { model(images, pass) } -> std::same_as<Tensor>;
};

/// All that a family must say. Where the compiler refuses one, its message ends with the line that
/// is missing.
template <class F>
concept ModelFamily = ModelConfiguration<typename F::Config> && ModelOf<typename F::Model, typename F::Config> &&
    requires(const typename F::Model& model) {
  { F::name } -> std::convertible_to<std::string_view>;                           // "swin", in texts for users
  { F::takes_any_size } -> std::convertible_to<bool>;                             // of images, as convolutions do
  { F::layers } -> std::convertible_to<LayerNames>;                               // how deep a parameter sits
  { F::no_decay() } -> std::same_as<std::vector<std::string>>;                    // besides parameters of one dim
  { F::summarize(model) } -> std::same_as<std::vector<LayerSummary>>;             // in the order of use
  { F::catalog() } -> std::same_as<std::vector<CatalogRow<typename F::Config>>>;  // the models that have a name
};

/// Checks one family, so that the compiler's message is about this one.
template <ModelFamily F>
struct ListedFamily {};

/// The families.
template <class... F>
struct FamilyList : ListedFamily<F>... {
  using Config = std::variant<typename F::Config...>;  // of a model of any of them

  /// Calls visit.operator()<Family>() for each.
  static void for_each(auto&& visit) { (visit.template operator()<F>(), ...); }
};

}  // namespace vitrine
