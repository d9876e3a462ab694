// The table of named models, and the search in it.
#include "models/registry.h"

#include <algorithm>
#include <map>

#include "models/vit.h"

namespace vitrine {
namespace {

struct Entry {
  ViTConfig config;
  PretrainedConfig pretrained;
};

/// A ViT behind the interface of every model.
class ViTModel final : public Model::Interface {
 public:
  explicit ViTModel(VisionTransformer model) : model_(std::move(model)) {}
  Tensor forward(const Tensor& images, const Pass& pass) const override { return model_(images, pass); }
  std::vector<NamedParameter> parameters() override { return vitrine::parameters(model_); }
  std::unique_ptr<Interface> deep_copy() const override {
    return std::make_unique<ViTModel>(vitrine::deep_copy(model_));
  }
  ModelSummary summary() const override { return summarize(model_); }
  void move_to(Device device) override { vitrine::move_to(model_, device); }
  void cast_to(DType dtype) override { vitrine::cast_to(model_, dtype); }

 private:
  VisionTransformer model_;
};

struct Size {
  const char* name;
  std::int64_t dim;
  int depth, heads;
};

constexpr Size tiny{"tiny", 192, 12, 3}, small{"small", 384, 12, 6}, base{"base", 768, 12, 12},
    large{"large", 1024, 24, 16}, huge{"huge", 1280, 32, 16};

/// timm's vit_<size>_patch<P>_<image>, and the same at 32 pixels for CIFAR with ten classes.
std::map<std::string, Entry, std::less<>> make_registry() {
  std::map<std::string, Entry, std::less<>> entries;
  const auto add = [&](const Size& size, std::int64_t patch, std::int64_t image) {
    const ViTConfig config{.image = image,
                           .patch = patch,
                           .classes = image == 32 ? 10 : 1000,
                           .dim = size.dim,
                           .depth = size.depth,
                           .heads = size.heads};
    PretrainedConfig pretrained{.input_size = {config.channels, image, image}};
    pretrained.crop_pct = image == 224 ? 0.9 : 1.0;
    entries[fmt::format("vit_{}_patch{}_{}", size.name, patch, image)] = {config, pretrained};
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
  return entries;
}

const std::map<std::string, Entry, std::less<>>& registry() {
  static const auto entries = make_registry();
  return entries;
}

/// Number of insertions, deletions and replacements between two words (Levenshtein 1966).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

const std::pair<const std::string, Entry>& find_entry(std::string_view name) {
  const std::string_view bare = name.substr(0, name.find('.'));  // a tag names weights, not an architecture
  const auto found = registry().find(bare);
  if (found != registry().end()) return *found;
  std::vector<std::string> names = list_models();
  std::ranges::stable_sort(names, {}, [&](const std::string& other) { return edit_distance(bare, other); });
  throw UnknownModel(fmt::format("create_model: no model is called \"{}\"; the closest of {} are {}, {}, {}", name,
                                 names.size(), names[0], names[1], names[2]));
}

ViTConfig apply(ViTConfig config, const ModelOptions& o) {
  config.classes = o.num_classes.value_or(config.classes);
  config.image = o.img_size.value_or(config.image);
  config.patch = o.patch_size.value_or(config.patch);
  config.dim = o.embed_dim.value_or(config.dim);
  config.depth = o.depth.value_or(config.depth);
  config.heads = o.num_heads.value_or(config.heads);
  config.mlp_ratio = o.mlp_ratio.value_or(config.mlp_ratio);
  config.drop_rate = o.drop_rate.value_or(config.drop_rate);
  config.drop_path_rate = o.drop_path_rate.value_or(config.drop_path_rate);
  config.class_token = o.class_token.value_or(config.class_token);
  config.global_pool = o.global_pool.value_or(config.class_token ? config.global_pool : "avg");
  config.representation = o.representation_size.value_or(config.representation);
  return config;
}

Model build(std::string_view name, const ModelOptions& options, const Initializer& init) {
  const auto& [registered, entry] = find_entry(name);
  const ViTConfig config = apply(entry.config, options);
  Model::Info info{.name = registered,
                   .classes = config.classes,
                   .pretrained = entry.pretrained,
                   .options = options,
                   .no_decay = vit_no_decay()};
  info.pretrained.input_size = {config.channels, config.image, config.image};
  return {std::make_unique<ViTModel>(VisionTransformer::make(config, init)), std::move(info)};
}

/// Shell-style: * is any text, ? is any character.
bool matches(std::string_view glob, std::string_view text) {
  if (glob.empty()) return text.empty();
  if (glob[0] == '*') return matches(glob.substr(1), text) || (!text.empty() && matches(glob, text.substr(1)));
  return !text.empty() && (glob[0] == '?' || glob[0] == text[0]) && matches(glob.substr(1), text.substr(1));
}

}  // namespace

std::int64_t Model::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& [name, parameter] : parameters()) count += element_count(parameter->shape());
  return count;
}

LoadReport Model::load_state_dict(const StateDict& state, bool strict) {
  return load_parameters(parameters(), state, strict);
}

ModelSummary Model::summary() const {
  ModelSummary summary = interface_->summary();
  summary.name = info_.name;
  return summary;
}

Model create_model(std::string_view name, const ModelOptions& options) {
  return build(name, options, Initializer(options.seed, options.dtype));
}

std::vector<std::string> list_models(std::string_view glob) {
  std::vector<std::string> names;
  for (const auto& [name, entry] : registry()) {
    if (matches(glob, name)) names.push_back(name);
  }
  return names;
}

ModelSummary summarize_model(std::string_view name, const ModelOptions& options) {
  return build(name, options, Initializer::shapes_only()).summary();
}

}  // namespace vitrine
