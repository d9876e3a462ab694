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

/// resnet18, resnet34, resnet50; and for small images resnet<N>_cifar: the paper's own (N = 20, 56: 16 channels, three stages,
/// with 1 x 1 convolutions as shortcuts) and the wide form that later work uses (N = 18).
void add_resnets(Catalog& entries) {
  const auto add = [&](const char* name, ResNetConfig config) {
    PretrainedConfig pretrained = imagenet(config.image);
    pretrained.interpolation = config.bottleneck ? "bicubic" : "bilinear";
    pretrained.first_conv = "conv1";
    pretrained.classifier = "fc";
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

}  // namespace

const Catalog& catalog() {
  static const Catalog entries = [] {
    Catalog all;
    add_vits(all);
    add_deits(all);
    add_swins(all);
    add_resnets(all);
    return all;
  }();
  return entries;
}

}  // namespace vitrine
