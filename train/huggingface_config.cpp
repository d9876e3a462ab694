// The settings of transformers' ViT, DeiT, Swin and ResNet (their configuration classes), mapped to ours.
#include "train/huggingface_config.h"

#include <algorithm>
#include <map>

namespace vitrine {
namespace {

/// Refuses what no model of ours can be told.
template <class T>
void expect_setting(const ConfigFile& config, const std::string& key, const T& expected) {
  const T value = config.get(key, expected);
  VT_CHECK(value == expected, "{}: is {}, expected {}", config.where(key), value, expected);
}

void check_common(const ConfigFile& config, const std::string& activation) {
  expect_setting(config, "hidden_act", activation);
  expect_setting<std::int64_t>(config, "num_channels", 3);
}

/// Labels in the order of their numbers; none where they are only "LABEL_0", "LABEL_1", ...
void read_labels(const ConfigFile& config, HuggingFaceModel& model) {
  std::map<std::size_t, std::string> labels;
  for (const auto& [number, label] : config.members("id2label")) {
    std::size_t read = 0;
    std::size_t index = 0;
    try {
      index = std::stoul(number, &read);
    } catch (const std::exception&) {  // not a number: `read` stays 0
    }
    VT_CHECK(read > 0 && read == number.size(), "{}: has the key \"{}\", expected numbers", config.where("id2label"),
             number);
    labels[index] = label;
  }
  if (labels.empty()) {  // transformers leaves out its default, two labels
    model.options.num_classes = config.get<std::int64_t>("num_labels", 2);
    return;
  }
  VT_CHECK(labels.rbegin()->first + 1 == labels.size(), "{}: has {} labels, of which the last is number {}",
           config.where("id2label"), labels.size(), labels.rbegin()->first);
  model.options.num_classes = static_cast<std::int64_t>(labels.size());
  const bool named = std::ranges::any_of(
      labels, [](const auto& entry) { return entry.second != fmt::format("LABEL_{}", entry.first); });
  if (!named) return;
  for (const auto& [number, label] : labels) model.label_names.push_back(label);
}

// ---- One architecture each. The fallbacks are the defaults of transformers, which its files may leave out. ----

/// "vit_base_patch16_224" where that exists, else a name of the same kind, whose sizes the options change.
std::string name_of_vit(const ModelOptions& o, bool distilled) {
  static const std::map<std::int64_t, const char*> sizes = {
      {192, "tiny"}, {384, "small"}, {768, "base"}, {1024, "large"}, {1280, "huge"}};
  const std::string kind = distilled ? "deit_{}_distilled_patch{}_{}" : "vit_{}_patch{}_{}";
  const auto size = sizes.find(*o.embed_dim);
  const std::string name =
      fmt::format(fmt::runtime(kind), size == sizes.end() ? "base" : size->second, *o.patch_size, *o.img_size);
  return list_models(name).empty() ? fmt::format(fmt::runtime(kind), "base", 16, 224) : name;
}

void read_vit(const ConfigFile& config, HuggingFaceModel& model) {
  const bool deit = config.get<std::string>("model_type", "") == "deit";
  const auto architecture = config.get("architectures", std::vector<std::string>{"ViTForImageClassification"});
  const bool distilled = deit && std::ranges::count(architecture, "DeiTForImageClassificationWithTeacher");
  VT_CHECK(!deit || distilled,
           "{}: is {}, expected DeiTForImageClassificationWithTeacher: a DeiT with a distillation token "
           "and one head is not known here",
           config.where("architectures"), architecture.empty() ? "empty" : architecture[0]);
  check_common(config, "gelu");
  expect_setting(config, "qkv_bias", true);
  const auto D = config.get<std::int64_t>("hidden_size", 768);
  ModelOptions& o = model.options;
  o.img_size = config.get<std::int64_t>("image_size", 224);
  o.patch_size = config.get<std::int64_t>("patch_size", 16);
  o.embed_dim = D;
  o.depth = static_cast<int>(config.get<std::int64_t>("num_hidden_layers", 12));
  o.num_heads = Numbers(static_cast<int>(config.get<std::int64_t>("num_attention_heads", 12)));
  o.mlp_ratio = static_cast<double>(config.get<std::int64_t>("intermediate_size", 3072)) / static_cast<double>(D);
  model.name = name_of_vit(o, distilled);
  o.norm_eps = config.get("layer_norm_eps", 1e-12);
}

void read_swin(const ConfigFile& config, HuggingFaceModel& model) {
  check_common(config, "gelu");
  expect_setting(config, "qkv_bias", true);
  ModelOptions& o = model.options;
  o.img_size = config.get<std::int64_t>("image_size", 224);
  o.patch_size = config.get<std::int64_t>("patch_size", 4);
  o.embed_dim = config.get<std::int64_t>("embed_dim", 96);
  o.depths = Numbers(config.get("depths", std::vector<int>{2, 2, 6, 2}));
  o.num_heads = Numbers(config.get("num_heads", std::vector<int>{3, 6, 12, 24}));
  o.window_size = config.get<std::int64_t>("window_size", 7);
  o.mlp_ratio = config.get("mlp_ratio", 4.0);
  if (config.get("use_absolute_embeddings", false)) o.position = "both";
  static const std::map<std::int64_t, const char*> sizes = {{96, "tiny"}, {128, "base"}, {192, "large"}};
  const auto size = sizes.find(*o.embed_dim);
  const bool is_small = *o.embed_dim == 96 && o.depths->values == std::vector<int>{2, 2, 18, 2};
  const std::string name = fmt::format("swin_{}_patch{}_window{}_{}",
                                       is_small              ? "small"
                                       : size == sizes.end() ? "tiny"
                                                             : size->second,
                                       *o.patch_size, *o.window_size, *o.img_size);
  model.name = list_models(name).empty() ? "swin_tiny_patch4_window7_224" : name;
  o.norm_eps = config.get("layer_norm_eps", 1e-5);
}

void read_resnet(const ConfigFile& config, HuggingFaceModel& model) {
  check_common(config, "relu");
  expect_setting(config, "downsample_in_first_stage", false);
  expect_setting(config, "downsample_in_bottleneck", false);
  expect_setting<std::int64_t>(config, "embedding_size", 64);
  const auto type = config.get<std::string>("layer_type", "bottleneck");
  VT_CHECK(type == "basic" || type == "bottleneck", "{}: is \"{}\", expected basic or bottleneck",
           config.where("layer_type"), type);
  const int outer = type == "basic" ? 1 : 4;
  const std::vector<int> expected = {64 * outer, 128 * outer, 256 * outer, 512 * outer};
  const auto widths = config.get("hidden_sizes", std::vector<int>{256, 512, 1024, 2048});
  const auto depths = config.get("depths", std::vector<int>{3, 4, 6, 3});
  VT_CHECK(widths == expected && depths.size() == widths.size(),
           "{}: are of another network than ResNet-18, -34, -50 and their likes: the first is {} of {}",
           config.where("hidden_sizes"), widths.empty() ? 0 : widths[0], widths.size());
  model.options.depths = Numbers(depths);
  model.name = type == "bottleneck" ? "resnet50" : depths == std::vector<int>{3, 4, 6, 3} ? "resnet34" : "resnet18";
}

}  // namespace

HuggingFaceModel read_huggingface_model(const ConfigFile& config) {
  HuggingFaceModel model;
  const auto type = config.get<std::string>("model_type", "");
  read_labels(config, model);
  if (type == "vit" || type == "deit") {
    read_vit(config, model);
  } else if (type == "swin") {
    read_swin(config, model);
  } else {
    VT_CHECK(type == "resnet", "{}: is \"{}\", expected vit, deit, swin or resnet", config.where("model_type"), type);
    read_resnet(config, model);
  }
  return model;
}

PretrainedConfig read_huggingface_preprocessing(const std::filesystem::path& folder, PretrainedConfig preprocessing) {
  const auto path = folder / "preprocessor_config.json";
  if (!std::filesystem::exists(path)) return preprocessing;
  const ConfigFile config(path);
  preprocessing.mean = config.get("image_mean", preprocessing.mean);
  preprocessing.std = config.get("image_std", preprocessing.std);
  // Pillow's numbers for its filters.
  const auto filter = config.get<std::int64_t>("resample", preprocessing.interpolation == "bicubic" ? 3 : 2);
  VT_CHECK(filter == 2 || filter == 3, "{}: is {}, expected 2 (bilinear) or 3 (bicubic)", config.where("resample"),
           filter);
  preprocessing.interpolation = filter == 3 ? "bicubic" : "bilinear";
  preprocessing.crop_pct = config.get("crop_pct", preprocessing.crop_pct);
  return preprocessing;
}

}  // namespace vitrine
