// What images a model wants: size, crop, resampling, mean and deviation.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace vitrine {

/// What images a model wants; the fields and values of timm's pretrained_cfg.
struct PretrainedConfig {
  std::array<std::int64_t, 3> input_size{3, 224, 224};  // (C, H, W)
  std::string interpolation = "bicubic";
  double crop_pct = 0.9;
  std::array<double, 3> mean{0.5, 0.5, 0.5};
  std::array<double, 3> std{0.5, 0.5, 0.5};
  std::string first_conv = "patch_embed.proj";
  std::vector<std::string> classifier{"head"};  // the linear layers that give the logits
};

/// For a model of one channel, the same mean and deviation for all three colours, the average of
/// the three: else brightness would not be that of the image.
inline PretrainedConfig with_equal_colors(PretrainedConfig config) {
  if (config.input_size[0] != 1) return config;
  for (auto* values : {&config.mean, &config.std}) values->fill(((*values)[0] + (*values)[1] + (*values)[2]) / 3);
  return config;
}

/// With the mean and deviation of ImageNet, as DeiT, Swin and the convolutional networks were
/// trained.
inline PretrainedConfig imagenet_config(std::int64_t image) {
  return {.input_size = {3, image, image},
          .crop_pct = image == 224 ? 0.9 : 1.0,
          .mean = {0.485, 0.456, 0.406},
          .std = {0.229, 0.224, 0.225}};
}

}  // namespace vitrine
