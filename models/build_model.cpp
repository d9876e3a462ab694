// From an entry of the table to a model: the options that each family understands, and the interface that all share.
#include "models/catalog.h"
#include "models/deit.h"

namespace vitrine {
namespace {

// ---- Options ----

template <class T, class Value>
void override_with(const std::optional<Value>& option, T& value) {
  if (option) value = *option;
}

/// Refuses an option that the family does not have.
template <class Value>
void check_absent(const std::string& model, const char* option, const std::optional<Value>& value) {
  VT_CHECK(!value, "create_model: {} has no option {}", model, option);
}

/// What only a ViT, or only a Swin, can be told.
void check_vit_options_absent(const std::string& name, const ModelOptions& o) {
  check_absent(name, "depth", o.depth);
  check_absent(name, "class_token", o.class_token);
  check_absent(name, "global_pool", o.global_pool);
  check_absent(name, "representation_size", o.representation_size);
  check_absent(name, "weight_init", o.weight_init);
}
void check_swin_options_absent(const std::string& name, const ModelOptions& o) {
  check_absent(name, "window_size", o.window_size);
  check_absent(name, "shift", o.shift);
  check_absent(name, "position", o.position);
}

ViTConfig apply(const std::string& name, ViTConfig config, const ModelOptions& o) {
  check_absent(name, "depths", o.depths);
  check_swin_options_absent(name, o);
  VT_CHECK(!o.num_heads || o.num_heads->values.size() == 1, "create_model: {} takes one number of heads, not {}", name,
           o.num_heads ? o.num_heads->values.size() : 0);
  override_with(o.num_classes, config.classes);
  override_with(o.img_size, config.image);
  override_with(o.patch_size, config.patch);
  override_with(o.embed_dim, config.dim);
  override_with(o.depth, config.depth);
  if (o.num_heads) config.heads = o.num_heads->values[0];
  override_with(o.mlp_ratio, config.mlp_ratio);
  override_with(o.drop_rate, config.drop_rate);
  override_with(o.drop_path_rate, config.drop_path_rate);
  override_with(o.class_token, config.class_token);
  config.global_pool = o.global_pool.value_or(config.class_token ? config.global_pool : "avg");
  override_with(o.representation_size, config.representation);
  override_with(o.weight_init, config.weight_init);
  override_with(o.norm_eps, config.norm_epsilon);
  return config;
}

DistilledConfig apply(const std::string& name, const DistilledConfig& config, const ModelOptions& o) {
  return {apply(name, config.vit, o)};
}

HybridConfig apply(const std::string& name, HybridConfig config, const ModelOptions& o) {
  check_absent(name, "patch_size", o.patch_size);
  config.vit = apply(name, config.vit, o);
  return config;
}

/// What a convolutional network has: classes, image size and dropout. `depths` is left to the family.
template <class Config>
Config apply_to_convnet(const std::string& name, Config config, const ModelOptions& o) {
  check_vit_options_absent(name, o);
  check_swin_options_absent(name, o);
  check_absent(name, "patch_size", o.patch_size);
  check_absent(name, "embed_dim", o.embed_dim);
  check_absent(name, "num_heads", o.num_heads);
  check_absent(name, "mlp_ratio", o.mlp_ratio);
  check_absent(name, "norm_eps", o.norm_eps);
  VT_CHECK(o.drop_path_rate.value_or(0) == 0, "create_model: {} has no drop path, but drop_path_rate is {}", name,
           *o.drop_path_rate);
  override_with(o.num_classes, config.classes);
  override_with(o.img_size, config.image);
  override_with(o.drop_rate, config.drop_rate);
  return config;
}

ResNetConfig apply(const std::string& name, ResNetConfig config, const ModelOptions& o) {
  if (o.depths) config.depths = o.depths->values;
  return apply_to_convnet(name, std::move(config), o);
}

RegNetConfig apply(const std::string& name, const RegNetConfig& config, const ModelOptions& o) {
  check_absent(name, "depths", o.depths);
  return apply_to_convnet(name, config, o);
}

SwinPosition swin_position(const std::string& text) {
  if (text == "none") return SwinPosition::none;
  if (text == "absolute") return SwinPosition::absolute;
  if (text == "relative") return SwinPosition::relative;
  VT_CHECK(text == "both", "create_model: position is \"{}\", expected none, absolute, relative or both", text);
  return SwinPosition::both;
}

SwinConfig apply(const std::string& name, SwinConfig config, const ModelOptions& o) {
  check_vit_options_absent(name, o);
  override_with(o.num_classes, config.classes);
  override_with(o.img_size, config.image);
  override_with(o.patch_size, config.patch);
  override_with(o.embed_dim, config.dim);
  if (o.depths) config.depths = o.depths->values;
  if (o.num_heads) config.heads = o.num_heads->values;
  override_with(o.window_size, config.window);
  override_with(o.mlp_ratio, config.mlp_ratio);
  override_with(o.drop_rate, config.drop_rate);
  override_with(o.drop_path_rate, config.drop_path_rate);
  override_with(o.norm_eps, config.norm_epsilon);
  override_with(o.shift, config.shift);
  if (o.position) config.position = swin_position(*o.position);
  return config;
}

CvTConfig apply(const std::string& name, CvTConfig config, const ModelOptions& o) {
  check_vit_options_absent(name, o);
  check_swin_options_absent(name, o);
  check_absent(name, "patch_size", o.patch_size);
  check_absent(name, "norm_eps", o.norm_eps);
  override_with(o.num_classes, config.classes);
  override_with(o.img_size, config.image);
  if (o.depths) config.depths = o.depths->values;
  if (o.num_heads) config.heads = o.num_heads->values;
  override_with(o.embed_dim, config.dim);
  override_with(o.mlp_ratio, config.mlp_ratio);
  override_with(o.drop_rate, config.drop_rate);
  override_with(o.drop_path_rate, config.drop_path_rate);
  return config;
}

DistilledHead distilled_head(const std::string& text) {
  if (text == "both") return DistilledHead::both;
  if (text == "class") return DistilledHead::classes;
  VT_CHECK(text == "distillation", "create_model: distilled_head is \"{}\", expected both, class or distillation",
           text);
  return DistilledHead::distillation;
}

// ---- From a configuration to a model behind the interface of all ----

template <class M>
class Wrapped final : public Model::Interface {
 public:
  explicit Wrapped(M model) : model_(std::move(model)) {}
  Tensor forward(const Tensor& images, const Pass& pass) const override { return model_(images, pass); }
  std::vector<Tensor> forward_heads(const Tensor& images, const Pass& pass) const override {
    if constexpr (std::is_same_v<M, DistilledVisionTransformer>) {
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
  ModelSummary summary() const override { return summarize(model_); }
  void move_to(Device device) override { vitrine::move_to(model_, device); }
  void cast_to(DType dtype) override { vitrine::cast_to(model_, dtype); }

 private:
  M model_;
};

template <class M>
Model wrapped(M model, Model::Info info) {
  info.classes = model.config.classes;
  info.pretrained.input_size = {model.config.channels, model.config.image, model.config.image};
  return {std::make_unique<Wrapped<M>>(std::move(model)), std::move(info)};
}

}  // namespace

ModelConfig config_of(const Model& model) {
  const auto found = catalog().find(model.name());
  VT_CHECK(found != catalog().end(), "config_of: {} is not one of the {} models that have a name", model.name(),
           catalog().size());
  return std::visit([&](const auto& config) { return ModelConfig(apply(model.name(), config, model.info().options)); },
                    found->second.config);
}

Model build_model(const std::string& name, const CatalogEntry& entry, const ModelOptions& options,
                  const Initializer& init) {
  Model::Info info{.name = name, .pretrained = entry.pretrained, .options = options, .no_decay = vit_no_decay()};
  if (const auto* config = std::get_if<DistilledConfig>(&entry.config)) {
    info.no_decay = deit_no_decay();
    info.has_distillation_token = true;
    return wrapped(DistilledVisionTransformer::make(apply(name, *config, options).vit, init,
                                                    distilled_head(options.distilled_head.value_or("both"))),
                   std::move(info));
  }
  check_absent(name, "distilled_head", options.distilled_head);
  if (const auto* config = std::get_if<SwinConfig>(&entry.config)) {
    info.no_decay = swin_no_decay();
    return wrapped(SwinTransformer::make(apply(name, *config, options), init), std::move(info));
  }
  if (const auto* config = std::get_if<CvTConfig>(&entry.config)) {
    info.no_decay = cvt_no_decay();
    info.takes_any_size = true;
    return wrapped(ConvolutionalVisionTransformer::make(apply(name, *config, options), init), std::move(info));
  }
  if (const auto* config = std::get_if<ResNetConfig>(&entry.config)) {
    info.no_decay = {};
    info.takes_any_size = true;
    return wrapped(ResNet::make(apply(name, *config, options), init), std::move(info));
  }
  if (const auto* config = std::get_if<RegNetConfig>(&entry.config)) {
    info.no_decay = {};
    info.takes_any_size = true;
    return wrapped(RegNet::make(apply(name, *config, options), init), std::move(info));
  }
  if (const auto* config = std::get_if<HybridConfig>(&entry.config)) {
    return wrapped(HybridVisionTransformer::make(apply(name, *config, options), init), std::move(info));
  }
  return wrapped(VisionTransformer::make(apply(name, std::get<ViTConfig>(entry.config), options), init),
                 std::move(info));
}

}  // namespace vitrine
