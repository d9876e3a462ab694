// What follows from the list of families: the table of names, options put into configurations,
// models behind one interface.
#include "models/catalog.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace vitrine {
namespace {

// ---- Options: a configuration's list (Config::options) against ModelOptions' own ----

/// member = option. An enumeration is read by the from_text that stands beside it.
template <class Member, class Option>
void assign(const std::string& model, const char* name, const Option& option, Member& member) {
  if constexpr (std::is_enum_v<Member>) {
    from_text(option, member);
  } else if constexpr (!std::is_same_v<Option, PerStage>) {
    member = option;
  } else if constexpr (std::is_same_v<Member, std::vector<int>>) {
    member = option.values;
  } else {
    VT_CHECK(option.values.size() == 1, "create_model: {} takes one value of {}, not {}", model, name,
             option.values.size());
    member = option.values[0];
  }
}

/// Refuses what the configuration does not list.
void check_listed(const std::string& model, const std::vector<std::string>& listed, ModelOptions options) {
  if (options.drop_path_rate == 0.0) options.drop_path_rate.reset();  // which every model can do
  ModelOptions::options(options, [&](const char* name, const auto& option) {
    VT_CHECK(!option || std::ranges::count(listed, name), "create_model: {} has no option {}, expected one of {}",
             model, name, fmt::join(listed, ", "));
  });
}

template <class Config>
Config with_options(const std::string& model, Config config, const ModelOptions& options) {
  std::vector<std::string> listed;
  Config::options(config, [&](auto option, auto&, const char*) { listed.emplace_back(option_name(option)); });
  check_listed(model, listed, options);
  Config::options(config, [&](auto option, auto& member, const char*) {
    if (options.*option) assign(model, option_name(option), *(options.*option), member);
  });
  return config;
}

// ---- A model of a family behind the interface of all ----

template <class M>
constexpr bool has_two_heads = requires(const M& model, const Tensor& images) {
  model.both_heads(images);
};

template <ModelFamily F>
class Wrapped final : public Model::Interface {
 public:
  explicit Wrapped(typename F::Model model) : model_(std::move(model)) {}
  Tensor forward(const Tensor& images, const Pass& pass) const override { return model_(images, pass); }
  std::vector<Tensor> forward_heads(const Tensor& images, const Pass& pass) const override {
    if constexpr (has_two_heads<typename F::Model>) {
      const auto logits = model_.both_heads(images, pass);
      return {logits.classes, logits.distillation};
    } else {
      return {model_(images, pass)};
    }
  }
  std::vector<NamedParameter> parameters() override { return vitrine::parameters(model_); }
  StateDict state_dict() const override { return vitrine::state_dict(model_); }
  std::unique_ptr<Interface> deep_copy() const override {
    return std::make_unique<Wrapped>(vitrine::deep_copy(model_));
  }
  ModelSummary summary() const override { return {F::name, F::summarize(model_)}; }
  void move_to(Device device) override { vitrine::move_to(model_, device); }
  void cast_to(DType dtype) override { vitrine::cast_to(model_, dtype); }

 private:
  typename F::Model model_;
};

template <ModelFamily F>
Model build(const std::string& name, const typename F::Config& config, PretrainedConfig pretrained,
            const ModelOptions& options, const Initializer& init) {
  const auto& c = image_config(config);
  pretrained.input_size = {c.channels, c.image, c.image};
  return {std::make_unique<Wrapped<F>>(F::Model::make(config, init)),
          {.name = name,
           .family = F::name,
           .classes = c.classes,
           .pretrained = std::move(pretrained),
           .options = options,
           .no_decay = F::no_decay(),
           .layers = F::layers,
           .has_distillation_token = has_two_heads<typename F::Model>,
           .takes_any_size = F::takes_any_size}};
}

}  // namespace

// ---- By name ----

const Catalog& catalog() {
  static const Catalog entries = [] {
    Catalog all;
    Families::for_each([&]<ModelFamily F>() {
      for (auto& [name, config, pretrained] : F::catalog()) {
        VT_CHECK(all.emplace(name, CatalogEntry{config, pretrained}).second, "catalog: two models are called {}", name);
      }
    });
    return all;
  }();
  return entries;
}

ModelConfig config_of(const Model& model) {
  const auto found = catalog().find(model.name());
  VT_CHECK(found != catalog().end(), "config_of: {} is not one of the {} models that have a name", model.name(),
           catalog().size());
  return std::visit(
      [&](const auto& config) { return ModelConfig(with_options(model.name(), config, model.info().options)); },
      found->second.config);
}

Model build_model(const std::string& name, const CatalogEntry& entry, const ModelOptions& options,
                  const Initializer& init) {
  std::optional<Model> model;
  Families::for_each([&]<ModelFamily F>() {
    if (const auto* config = std::get_if<typename F::Config>(&entry.config)) {
      model = build<F>(name, with_options(name, *config, options), entry.pretrained, options, init);
    }
  });
  return std::move(*model);
}

}  // namespace vitrine
