// The table of named models, and the options that each family understands.
#include "models/catalog.h"

#include "models/deit.h"

namespace vitrine {
namespace {

// ---- The table ----

struct Size {
  const char* name;
  std::int64_t dim;
  int depth, heads;
};

constexpr Size tiny{"tiny", 192, 12, 3}, small{"small", 384, 12, 6}, base{"base", 768, 12, 12},
    large{"large", 1024, 24, 16}, huge{"huge", 1280, 32, 16};

ViTConfig vit_config(const Size& size, std::int64_t patch, std::int64_t image) {
  return {.image = image,
          .patch = patch,
          .classes = image == 32 ? 10 : 1000,
          .dim = size.dim,
          .depth = size.depth,
          .heads = size.heads};
}

/// DeiT and Swin were trained with the mean and deviation of ImageNet.
PretrainedConfig imagenet(std::int64_t image) {
  return {.input_size = {3, image, image},
          .crop_pct = image == 224 ? 0.9 : 1.0,
          .mean = {0.485, 0.456, 0.406},
          .std = {0.229, 0.224, 0.225}};
}

/// vit_<size>_patch<P>_<image>.
void add_vits(Catalog& entries) {
  const auto add = [&](const Size& size, std::int64_t patch, std::int64_t image) {
    entries[fmt::format("vit_{}_patch{}_{}", size.name, patch, image)] = {
        vit_config(size, patch, image), {.input_size = {3, image, image}, .crop_pct = image == 224 ? 0.9 : 1.0}};
  };
  for (const std::int64_t image : {224, 384}) {
    add(tiny, 16, image);
    for (const Size& size : {small, base, large}) {
      for (const std::int64_t patch : {16, 32}) add(size, patch, image);
    }
  }
  add(small, 8, 224);
  add(base, 8, 224);
  add(large, 14, 224);
  add(huge, 14, 224);
  for (const Size& size : {tiny, small, base}) {
    for (const std::int64_t patch : {2, 4}) add(size, patch, 32);
  }
}

/// deit_<size>_patch16_<image> and deit_<size>_distilled_patch16_<image>.
void add_deits(Catalog& entries) {
  const auto add = [&](const Size& size, std::int64_t patch, std::int64_t image) {
    ViTConfig config = vit_config(size, patch, image);
    config.drop_path_rate = 0.1;
    entries[fmt::format("deit_{}_patch{}_{}", size.name, patch, image)] = {config, imagenet(image)};
    entries[fmt::format("deit_{}_distilled_patch{}_{}", size.name, patch, image)] = {DistilledConfig{config},
                                                                                     imagenet(image)};
  };
  for (const Size& size : {tiny, small, base}) add(size, 16, 224);
  add(base, 16, 384);
  for (const Size& size : {tiny, small}) add(size, 4, 32);
}

/// swin_<size>_patch<P>_window<W>_<image>.
void add_swins(Catalog& entries) {
  const auto add = [&](const char* name, SwinConfig config) {
    PretrainedConfig pretrained = imagenet(config.image);
    pretrained.classifier = "head.fc";
    entries[fmt::format("swin_{}_patch{}_window{}_{}", name, config.patch, config.window, config.image)] = {config,
                                                                                                            pretrained};
  };
  const SwinConfig swin_tiny{.drop_path_rate = 0.2};
  const SwinConfig swin_small{.depths = {2, 2, 18, 2}, .drop_path_rate = 0.3};
  const SwinConfig swin_base{.dim = 128, .depths = {2, 2, 18, 2}, .heads = {4, 8, 16, 32}, .drop_path_rate = 0.5};
  const SwinConfig swin_large{.dim = 192, .depths = {2, 2, 18, 2}, .heads = {6, 12, 24, 48}, .drop_path_rate = 0.2};
  add("tiny", swin_tiny);
  add("small", swin_small);
  add("base", swin_base);
  add("large", swin_large);
  for (SwinConfig config : {swin_base, swin_large}) {
    config.image = 384;
    config.window = 12;
    add(config.dim == 128 ? "base" : "large", config);
  }
  SwinConfig cifar = swin_tiny;
  cifar.image = 32;
  cifar.patch = 2;
  cifar.window = 4;
  cifar.classes = 10;
  add("tiny", cifar);
}

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

ViTConfig apply(const std::string& name, ViTConfig config, const ModelOptions& o) {
  check_absent(name, "depths", o.depths);
  check_absent(name, "window_size", o.window_size);
  check_absent(name, "shift", o.shift);
  check_absent(name, "position", o.position);
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
  return config;
}

SwinPosition swin_position(const std::string& text) {
  if (text == "none") return SwinPosition::none;
  if (text == "absolute") return SwinPosition::absolute;
  if (text == "relative") return SwinPosition::relative;
  VT_CHECK(text == "both", "create_model: position is \"{}\", expected none, absolute, relative or both", text);
  return SwinPosition::both;
}

SwinConfig apply(const std::string& name, SwinConfig config, const ModelOptions& o) {
  check_absent(name, "depth", o.depth);
  check_absent(name, "class_token", o.class_token);
  check_absent(name, "global_pool", o.global_pool);
  check_absent(name, "representation_size", o.representation_size);
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
  override_with(o.shift, config.shift);
  if (o.position) config.position = swin_position(*o.position);
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

const Catalog& catalog() {
  static const Catalog entries = [] {
    Catalog all;
    add_vits(all);
    add_deits(all);
    add_swins(all);
    return all;
  }();
  return entries;
}

Model build_model(const std::string& name, const CatalogEntry& entry, const ModelOptions& options,
                  const Initializer& init) {
  Model::Info info{.name = name, .pretrained = entry.pretrained, .options = options, .no_decay = vit_no_decay()};
  if (const auto* config = std::get_if<DistilledConfig>(&entry.config)) {
    info.no_decay = deit_no_decay();
    info.has_distillation_token = true;
    return wrapped(DistilledVisionTransformer::make(apply(name, config->vit, options), init,
                                                    distilled_head(options.distilled_head.value_or("both"))),
                   std::move(info));
  }
  check_absent(name, "distilled_head", options.distilled_head);
  if (const auto* config = std::get_if<SwinConfig>(&entry.config)) {
    info.no_decay = swin_no_decay();
    return wrapped(SwinTransformer::make(apply(name, *config, options), init), std::move(info));
  }
  return wrapped(VisionTransformer::make(apply(name, std::get<ViTConfig>(entry.config), options), init),
                 std::move(info));
}

}  // namespace vitrine
