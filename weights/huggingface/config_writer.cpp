// The other direction of weights/huggingface/config.cpp: what transformers must be told to build a
// model of ours.
#include <nlohmann/json.hpp>

#include "data/augment/transforms.h"
#include "models/catalog.h"
#include "weights/huggingface/config.h"

namespace vitrine {
namespace {

using Json = nlohmann::ordered_json;

// ---- One architecture each. The keys are transformers', and a check is for what it cannot be
// told. ----

Json config_of_vit(const Model&, const ViTConfig& c) {
  return {{"model_type", "vit"},
          {"architectures", {"ViTForImageClassification"}},
          {"image_size", c.image},
          {"patch_size", c.patch},
          {"num_channels", c.channels},
          {"hidden_size", c.dim},
          {"num_hidden_layers", c.depth},
          {"num_attention_heads", c.heads},
          {"intermediate_size", static_cast<std::int64_t>(static_cast<double>(c.dim) * c.mlp_ratio)},
          {"hidden_act", "gelu"},
          {"layer_norm_eps", c.norm_epsilon},
          {"qkv_bias", true}};
}

Json config_of_deit(const Model& model, const DistilledConfig& c) {
  VT_CHECK(c.inference_head == DistilledHead::both,
           "{}: distilled_head is \"{}\", expected \"both\", as Hugging Face's DeiT answers", model.name(),
           model.info().options.distilled_head.value_or("both"));
  Json config = config_of_vit(model, c.vit);
  config["model_type"] = "deit";
  config["architectures"] = {"DeiTForImageClassificationWithTeacher"};
  return config;
}

/// Hugging Face's Swin keeps its tables for whole windows where a map is smaller, and pads a map
/// before it is shifted, where ours, as timm's, is padded behind.
void check_maps_of_swin(const Model& model, const SwinConfig& c) {
  std::int64_t side = c.grid();
  for (const int depth : c.depths) {
    VT_CHECK(side >= c.window && (depth == 1 || side % c.window == 0),
             "{}: window_size is {}, expected a divisor of {}, the side of a map: Hugging Face's Swin treats others in "
             "another way",
             model.name(), c.window, side);
    side = (side + 1) / 2;
  }
}

Json config_of_swin(const Model& model, const SwinConfig& c) {
  VT_CHECK(c.shift, "{}: shift is false, expected true: Hugging Face's Swin always shifts its windows", model.name());
  const bool is_relative = c.position == SwinPosition::relative || c.position == SwinPosition::both;
  VT_CHECK(is_relative, "{}: position is \"{}\", expected relative or both: Hugging Face's Swin always has biases",
           model.name(), c.position == SwinPosition::none ? "none" : "absolute");
  VT_CHECK(c.norm_epsilon == 1e-5, "{}: norm_eps is {}, expected 1e-05, which Hugging Face's Swin has in some layers",
           model.name(), c.norm_epsilon);
  check_maps_of_swin(model, c);
  return {{"model_type", "swin"},       {"architectures", {"SwinForImageClassification"}},
          {"image_size", c.image},      {"patch_size", c.patch},
          {"num_channels", c.channels}, {"embed_dim", c.dim},
          {"depths", c.depths},         {"num_heads", c.heads},
          {"window_size", c.window},    {"mlp_ratio", c.mlp_ratio},
          {"hidden_act", "gelu"},       {"layer_norm_eps", c.norm_epsilon},
          {"qkv_bias", true},           {"use_absolute_embeddings", c.position == SwinPosition::both}};
}

Json config_of_cvt(const CvTConfig& c) {
  const std::size_t stages = c.depths.size();
  const auto of_each_stage = [&](auto value) { return std::vector<decltype(value)>(stages, value); };
  const auto after_stem = [&](std::int64_t stem, std::int64_t others) {
    std::vector<std::int64_t> values(stages, others);
    values[0] = stem;
    return values;
  };
  std::vector<std::int64_t> dims;
  for (std::size_t s = 0; s < stages; ++s) dims.push_back(c.dim_of(s));
  std::vector<bool> cls_token(stages, false);
  cls_token.back() = true;
  return {{"model_type", "cvt"},
          {"architectures", {"CvtForImageClassification"}},
          {"num_channels", c.channels},
          {"patch_sizes", after_stem(c.stem_kernel, 3)},
          {"patch_stride", after_stem(c.stem_stride, 2)},
          {"patch_padding", after_stem(c.stem_padding, 1)},
          {"embed_dim", dims},
          {"num_heads", c.heads},
          {"depth", c.depths},
          {"mlp_ratio", of_each_stage(c.mlp_ratio)},
          {"qkv_bias", of_each_stage(true)},
          {"cls_token", cls_token},
          {"qkv_projection_method", of_each_stage("dw_bn")},
          {"kernel_qkv", of_each_stage(3)},
          {"padding_kv", of_each_stage(1)},
          {"stride_kv", of_each_stage(c.key_value_stride)},
          {"padding_q", of_each_stage(1)},
          {"stride_q", of_each_stage(1)}};
}

Json config_of_resnet(const Model& model, const ResNetConfig& c) {
  VT_CHECK(!c.small_images,
           "{}: has a stem for small images, expected that of resnet18, which Hugging Face's ResNet has", model.name());
  std::vector<std::int64_t> widths;
  for (std::size_t s = 0; s < c.depths.size(); ++s) widths.push_back(c.width_of(s) * (c.bottleneck ? 4 : 1));
  return {{"model_type", "resnet"},
          {"architectures", {"ResNetForImageClassification"}},
          {"num_channels", c.channels},
          {"embedding_size", c.width},
          {"hidden_sizes", widths},
          {"depths", c.depths},
          {"layer_type", c.bottleneck ? "bottleneck" : "basic"},
          {"hidden_act", "relu"},
          {"downsample_in_first_stage", false},
          {"downsample_in_bottleneck", false}};
}

Json config_of_regnet(const Model&, const RegNetConfig& c) {
  std::vector<std::int64_t> widths;
  std::vector<int> depths;
  for (const RegNetStage& stage : regnet_stages(c)) {
    widths.push_back(stage.width);
    depths.push_back(stage.depth);
  }
  return {{"model_type", "regnet"},        {"architectures", {"RegNetForImageClassification"}},
          {"num_channels", c.channels},    {"embedding_size", c.stem_width},
          {"hidden_sizes", widths},        {"depths", depths},
          {"groups_width", c.group_width}, {"layer_type", "y"},
          {"hidden_act", "relu"},          {"downsample_in_first_stage", true}};
}

// ---- What all have ----

struct Writer {
  const Model& model;

  Json operator()(const ViTConfig& c) const { return config_of_vit(model, c); }
  Json operator()(const DistilledConfig& c) const { return config_of_deit(model, c); }
  Json operator()(const SwinConfig& c) const { return config_of_swin(model, c); }
  Json operator()(const CvTConfig& c) const { return config_of_cvt(c); }
  Json operator()(const ResNetConfig& c) const { return config_of_resnet(model, c); }
  Json operator()(const RegNetConfig& c) const { return config_of_regnet(model, c); }
  /// A family without a function here.
  Json operator()(const auto&) const {
    throw Error(fmt::format("{}: is a {}, expected a ViT, DeiT, Swin, CvT, ResNet or RegNetY, as Hugging Face has them",
                            model.name(), model.info().family));
  }
};

/// transformers counts the outputs by their labels: every one has a label, if only its number.
void add_labels(Json& config, std::int64_t classes, const std::vector<std::string>& names) {
  Json labels = Json::object(), numbers = Json::object();
  for (std::int64_t i = 0; i < classes; ++i) {
    const auto place = static_cast<std::size_t>(i);
    const std::string label = place < names.size() ? names[place] : fmt::format("LABEL_{}", i);
    labels[std::to_string(i)] = label;
    numbers[label] = i;
  }
  if (classes == 0) config["num_labels"] = 0;
  config["id2label"] = labels;
  config["label2id"] = numbers;
}

/// The shorter side of an image before its middle is cut out, as in `vitrine eval`.
int resized_side(const PretrainedConfig& p) {
  return EvalTransform{.image_size = static_cast<int>(p.input_size[1]), .crop_pct = p.crop_pct}.resized_side();
}

std::string to_text(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

std::string to_huggingface_config(const Model& model, const std::vector<std::string>& label_names) {
  Json config = std::visit(Writer{model}, config_of(model));
  add_labels(config, model.classes(), label_names);
  return to_text(config);
}

std::string to_huggingface_preprocessing(const PretrainedConfig& p) {
  // CLIP's, since ViT's does not cut out the middle, and ConvNeXT's does so only below 384 pixels.
  return to_text({{"image_processor_type", "CLIPImageProcessor"},
                  {"do_convert_rgb", true},
                  {"do_resize", true},
                  {"size", {{"shortest_edge", resized_side(p)}}},
                  {"resample", p.interpolation == "bicubic" ? 3 : 2},  // Pillow's numbers
                  {"do_center_crop", true},
                  {"crop_size", {{"height", p.input_size[1]}, {"width", p.input_size[2]}}},
                  {"crop_pct", p.crop_pct},  // `size` has lost its digits; timm's rule, and ours, begins with this
                  {"do_rescale", true},
                  {"rescale_factor", 1.0 / 255},
                  {"do_normalize", true},
                  {"image_mean", p.mean},
                  {"image_std", p.std}});
}

}  // namespace vitrine
