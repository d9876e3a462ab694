// The settings of transformers' ViT, DeiT, Swin, CvT, ResNet and RegNet (their configuration
// classes), mapped to ours.
#include "weights/huggingface/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "models/catalog.h"

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

/// Labels in the order of their numbers, up to the last that is more than its number, as "LABEL_7"
/// is.
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
  for (const auto& [number, label] : labels) model.label_names.push_back(label);
  const auto is_number = [&] {
    return model.label_names.back() == fmt::format("LABEL_{}", model.label_names.size() - 1);
  };
  while (!model.label_names.empty() && is_number()) model.label_names.pop_back();
}

// ---- One architecture each. The fallbacks are the defaults of transformers, which its files may
// leave out. ----

/// "vit_base_patch16_224" where that exists, else a name of the same kind, whose sizes the options
/// change.
std::string name_of_vit(const ModelOptions& o, bool distilled) {
  static const std::map<std::int64_t, const char*> sizes = {
      {192, "tiny"}, {384, "small"}, {768, "base"}, {1024, "large"}, {1280, "huge"}};
  const std::string kind = distilled ? "deit_{}_distilled_patch{}_{}" : "vit_{}_patch{}_{}";
  const auto size = sizes.find(*o.embed_dim);
  const std::string name =
      fmt::format(fmt::runtime(kind), size == sizes.end() ? "base" : size->second, *o.patch_size, *o.img_size);
  return list_models(name).empty() ? fmt::format(fmt::runtime(kind), "base", 16, 224) : name;
}

/// The factor by which `dim`, cut to an integer as models/vit.cpp does it, becomes `hidden`.
double mlp_ratio_of(std::int64_t hidden, std::int64_t dim) {
  const double ratio = static_cast<double>(hidden) / static_cast<double>(dim);
  return static_cast<double>(dim) * ratio < static_cast<double>(hidden) ? std::nextafter(ratio, ratio + 1) : ratio;
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
  o.num_heads = PerStage(static_cast<int>(config.get<std::int64_t>("num_attention_heads", 12)));
  o.mlp_ratio = mlp_ratio_of(config.get<std::int64_t>("intermediate_size", 3072), D);
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
  o.depths = PerStage(config.get("depths", std::vector<int>{2, 2, 6, 2}));
  o.num_heads = PerStage(config.get("num_heads", std::vector<int>{3, 6, 12, 24}));
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

/// The published ones, and others with their way of making tokens.
void read_cvt(const ConfigFile& config, HuggingFaceModel& model) {
  using Integers = std::vector<int>;
  expect_setting<std::int64_t>(config, "num_channels", 3);
  const auto depths = config.get("depth", Integers{1, 2, 10}), heads = config.get("num_heads", Integers{1, 3, 6});
  const auto dims = config.get("embed_dim", Integers{64, 192, 384});
  const std::size_t stages = depths.size();
  VT_CHECK(stages > 0 && heads.size() == stages && heads[0] > 0 && dims.size() == stages && dims[0] % heads[0] == 0,
           "{}: is {}, expected a multiple of num_heads, {}, for each of {} stages", config.where("embed_dim"),
           fmt::join(dims, " "), fmt::join(heads, " "), stages);
  Integers expected_dims;
  for (const int count : heads) expected_dims.push_back(count * (dims[0] / heads[0]));
  expect_setting(config, "embed_dim", expected_dims);
  for (const auto& [key, value] : {std::pair{"kernel_qkv", 3},
                                   {"padding_q", 1},
                                   {"padding_kv", 1},
                                   {"stride_q", 1},
                                   {"stride_kv", 2},
                                   {"qkv_bias", 1}}) {
    expect_setting(config, key, Integers(stages, value));
  }
  expect_setting(config, "qkv_projection_method", std::vector<std::string>(stages, "dw_bn"));
  Integers cls_token(stages, 0);
  cls_token.back() = 1;
  expect_setting(config, "cls_token", cls_token);
  const auto kernels = config.get("patch_sizes", Integers{7, 3, 3});
  const bool is_for_small_images = !kernels.empty() && kernels[0] == 3;
  const auto expect_of_stages = [&](const char* key, const Integers& value, int first, int others) {
    Integers expected(stages, others);
    expected[0] = first;
    VT_CHECK(value == expected, "{}: is {}, expected {}", config.where(key), value, expected);
  };
  expect_of_stages("patch_sizes", kernels, is_for_small_images ? 3 : 7, 3);
  expect_of_stages("patch_stride", config.get("patch_stride", Integers{4, 2, 2}), is_for_small_images ? 2 : 4, 2);
  expect_of_stages("patch_padding", config.get("patch_padding", Integers{2, 1, 1}), is_for_small_images ? 1 : 2, 1);
  const auto mlp_ratios = config.get("mlp_ratio", std::vector<double>(stages, 4));
  const double mlp_ratio = mlp_ratios.empty() ? 4 : mlp_ratios[0];
  expect_setting(config, "mlp_ratio", std::vector<double>(stages, mlp_ratio));
  ModelOptions& o = model.options;
  o.embed_dim = dims[0];
  o.depths = PerStage(depths);
  o.num_heads = PerStage(heads);
  o.mlp_ratio = mlp_ratio;
  model.name = is_for_small_images               ? "cvt_13_32"
               : depths == Integers{1, 4, 16}    ? "cvt_21_224"
               : heads[0] == 3 && depths[0] == 2 ? "cvt_w24_384"
                                                 : "cvt_13_224";
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
  const auto widths = config.get("hidden_sizes", std::vector<int>{256, 512, 1024, 2048});
  const auto depths = config.get("depths", std::vector<int>{3, 4, 6, 3});
  std::vector<int> expected;
  for (std::size_t s = 0; s < depths.size(); ++s) expected.push_back((64 << s) * outer);
  VT_CHECK(!depths.empty() && widths == expected,
           "{}: is {}, expected {}, as ResNet-18, -34, -50 and their likes have it", config.where("hidden_sizes"),
           fmt::join(widths, " "), fmt::join(expected, " "));
  model.options.depths = PerStage(depths);
  model.name = type == "bottleneck" ? "resnet50" : depths == std::vector<int>{3, 4, 6, 3} ? "resnet34" : "resnet18";
}

/// Only the published ones: our RegNetY takes its widths from a line, and not every list of widths
/// lies on one.
void read_regnet(const ConfigFile& config, HuggingFaceModel& model) {
  check_common(config, "relu");
  expect_setting(config, "downsample_in_first_stage", true);
  expect_setting<std::string>(config, "layer_type", "y");
  const auto stem = config.get<std::int64_t>("embedding_size", 32),
             group = config.get<std::int64_t>("groups_width", 64);
  const auto widths = config.get("hidden_sizes", std::vector<int>{128, 192, 512, 1088});
  const auto depths = config.get("depths", std::vector<int>{2, 6, 12, 2});
  for (const auto& [name, entry] : catalog()) {
    const auto* known = std::get_if<RegNetConfig>(&entry.config);
    if (!known || known->stem_width != stem || known->group_width != group) continue;
    const auto has = [&](const RegNetStage& stage, int width) { return stage.width == width; };
    const auto repeats = [&](const RegNetStage& stage, int depth) { return stage.depth == depth; };
    const std::vector<RegNetStage> stages = regnet_stages(*known);
    if (std::ranges::equal(stages, widths, has) && std::ranges::equal(stages, depths, repeats)) model.name = name;
  }
  VT_CHECK(!model.name.empty(), "{}: is {}, of groups of {}, expected those of one of {}", config.where("hidden_sizes"),
           fmt::join(widths, " "), group, fmt::join(list_models("regnety_*"), ", "));
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
  } else if (type == "cvt") {
    read_cvt(config, model);
  } else if (type == "resnet") {
    read_resnet(config, model);
  } else {
    VT_CHECK(type == "regnet", "{}: is \"{}\", expected vit, deit, swin, cvt, resnet or regnet",
             config.where("model_type"), type);
    read_regnet(config, model);
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
  auto& [C, H, W] = preprocessing.input_size;  // which config.json of a convolutional network leaves open
  H = config.get("crop_size.height", H);
  W = config.get("crop_size.width", W);
  const auto processor =
      config.get<std::string>("image_processor_type", config.get<std::string>("feature_extractor_type", ""));
  if (processor.starts_with("ConvNext")) {  // its `size` is what the model sees; from 384 pixels on it cuts off nothing
    H = W = config.get(config.has("size.shortest_edge") ? "size.shortest_edge" : "size", H);
    if (H >= 384) preprocessing.crop_pct = 1;
  }
  return preprocessing;
}

}  // namespace vitrine
