// The table of named models.
#include "models/catalog.h"

namespace vitrine {
namespace {

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
    PretrainedConfig pretrained = imagenet(image);
    entries[fmt::format("deit_{}_patch{}_{}", size.name, patch, image)] = {config, pretrained};
    pretrained.classifier = {"head", "head_dist"};
    entries[fmt::format("deit_{}_distilled_patch{}_{}", size.name, patch, image)] = {DistilledConfig{config},
                                                                                     pretrained};
  };
  for (const Size& size : {tiny, small, base}) add(size, 16, 224);
  add(base, 16, 384);
  for (const Size& size : {tiny, small}) add(size, 4, 32);
}

/// swin_<size>_patch<P>_window<W>_<image>.
void add_swins(Catalog& entries) {
  const auto add = [&](const char* name, SwinConfig config) {
    PretrainedConfig pretrained = imagenet(config.image);
    pretrained.classifier = {"head.fc"};
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

/// cvt_<layers>_<image>: tables 2 and 3 of the paper. For CIFAR the first tokens are 3 x 3 pixels wide and 2 apart.
void add_cvts(Catalog& entries) {
  const auto add = [&](const char* name, const CvTConfig& config) {
    PretrainedConfig pretrained = imagenet(config.image);
    if (config.image == 224) pretrained.crop_pct = 0.875;
    pretrained.first_conv = "stage0.patch_embed.proj";
    entries[fmt::format("cvt_{}_{}", name, config.image)] = {config, pretrained};
  };
  for (const std::int64_t image : {224, 384}) {
    add("13", {.image = image});
    add("21", {.image = image, .depths = {1, 4, 16}});
  }
  add("w24", {.image = 384, .depths = {2, 2, 20}, .heads = {3, 12, 16}, .dim = 192, .drop_path_rate = 0.3});
  add("13", {.image = 32, .classes = 10, .stem_kernel = 3, .stem_stride = 2, .stem_padding = 1});
}

/// resnet18, resnet34, resnet50; and for small images resnet<N>_cifar: the paper's own (N = 20, 56: 16 channels, three stages,
/// with 1 x 1 convolutions as shortcuts) and the wide form that later work uses (N = 18).
void add_resnets(Catalog& entries) {
  const auto add = [&](const char* name, ResNetConfig config) {
    PretrainedConfig pretrained = imagenet(config.image);
    if (config.image == 224) pretrained.crop_pct = 0.95;
    pretrained.first_conv = "conv1";
    pretrained.classifier = {"fc"};
    entries[name] = {config, pretrained};
  };
  add("resnet18", {});
  add("resnet34", {.depths = {3, 4, 6, 3}});
  add("resnet50", {.depths = {3, 4, 6, 3}, .bottleneck = true});
  const ResNetConfig cifar{.image = 32, .classes = 10, .small_images = true};
  const auto add_cifar = [&](const char* name, std::vector<int> depths, std::int64_t width) {
    ResNetConfig config = cifar;
    config.depths = std::move(depths);
    config.width = width;
    add(name, config);
  };
  add_cifar("resnet20_cifar", {3, 3, 3}, 16);
  add_cifar("resnet56_cifar", {9, 9, 9}, 16);
  add_cifar("resnet18_cifar", {2, 2, 2, 2}, 64);
}

/// regnety_<N> has about N * 10^8 multiply-adds. The five numbers are those of the paper's appendix, the crops timm's.
void add_regnets(Catalog& entries) {
  const auto add = [&](const char* name, const RegNetConfig& config, double crop_pct) {
    PretrainedConfig pretrained = imagenet(config.image);
    pretrained.crop_pct = crop_pct;
    pretrained.first_conv = "stem.conv";
    pretrained.classifier = {"head.fc"};
    entries[name] = {config, pretrained};
  };
  const auto config = [](std::int64_t first_width, double slope, double multiplier, std::int64_t group_width,
                         int depth) {
    return RegNetConfig{.depth = depth,
                        .first_width = first_width,
                        .slope = slope,
                        .multiplier = multiplier,
                        .group_width = group_width};
  };
  add("regnety_002", config(24, 36.44, 2.49, 8, 13), 0.875);
  add("regnety_004", config(48, 27.89, 2.09, 8, 16), 0.965);
  add("regnety_006", config(48, 32.54, 2.32, 16, 15), 0.875);
  add("regnety_008", config(56, 38.84, 2.4, 16, 14), 0.875);
  add("regnety_016", config(48, 20.71, 2.65, 24, 27), 0.965);
  add("regnety_032", config(80, 42.63, 2.66, 24, 21), 0.95);
  add("regnety_040", config(96, 31.41, 2.24, 64, 22), 0.95);
  add("regnety_064", config(112, 33.22, 2.27, 72, 25), 0.95);
  add("regnety_080", config(192, 76.82, 2.19, 56, 17), 0.95);
  add("regnety_120", config(168, 73.36, 2.37, 112, 19), 0.95);
  add("regnety_160", config(200, 106.23, 2.48, 112, 18), 0.95);
}

/// vit_<size>_r<N>_s<P>_<image>: N layers in the ResNet in front, one token for P x P pixels. vit_tiny_r_s16_p8_<image> has
/// the stem alone in front, and patches of 8 x 8 places behind it.
void add_hybrids(Catalog& entries) {
  const auto add = [&](const Size& size, const char* form, std::int64_t patch, const std::vector<int>& depths) {
    for (const std::int64_t image : {224, 384}) {
      entries[fmt::format("vit_{}_{}_{}", size.name, form, image)] = {
          HybridConfig{.vit = vit_config(size, patch, image), .depths = depths},
          {.input_size = {3, image, image},
           .crop_pct = image == 224 ? 0.9 : 1.0,
           .first_conv = depths.empty() ? "patch_embed.backbone.conv" : "patch_embed.backbone.stem.conv"}};
    }
  };
  add(tiny, "r_s16_p8", 32, {});
  add(small, "r26_s32", 32, {2, 2, 2, 2});
  add(base, "r50_s16", 16, {3, 4, 9});
  add(large, "r50_s32", 32, {3, 4, 6, 3});
}

}  // namespace

const Catalog& catalog() {
  static const Catalog entries = [] {
    Catalog all;
    add_vits(all);
    add_deits(all);
    add_swins(all);
    add_cvts(all);
    add_resnets(all);
    add_regnets(all);
    add_hybrids(all);
    return all;
  }();
  return entries;
}

}  // namespace vitrine
