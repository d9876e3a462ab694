// What CPU and GPU must agree on about the pixels of an augmented image, written once for both:
// which pixel a reflected border shows, the noise in an erased box, and how two images are blended.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "data/image/resize.h"
#include "tensor/device/host_device.h"
#include "tensor/philox.h"

namespace vitrine {

/// Position i of a line of `count` pixels that is continued by reflection; the border pixel itself
/// is not repeated.
VT_HD inline int reflected(int i, int count) { return i < 0 ? -i : i >= count ? 2 * (count - 1) - i : i; }

/// A box that random erasing fills, and where its noise comes from.
struct ErasedBox {
  Box box;
  Random noise;

  VT_HD bool contains(int y, int x) const {
    return y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
  }
};

struct NormalPair {
  float first, second;
};

/// Two standard normal values from two words of random bits (Box-Muller).
VT_HD inline NormalPair normal_pair(std::uint32_t word0, std::uint32_t word1) {
  const float radius = std::sqrt(-2 * std::log((static_cast<float>(word0 >> 8) + 0.5f) * 0x1p-24f));
  const float angle = 2 * std::numbers::pi_v<float> * static_cast<float>(word1 >> 8) * 0x1p-24f;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// Standard normal value `index` of a stream; every block of random bits gives four. A GPU's
/// logarithm and cosine may differ from the CPU's in the last bits: by 1e-6 of the value at most.
VT_HD inline float normal_number(const Random& random, std::uint64_t index) {
  const PhiloxBlock block = random.block(index >> 2);
  const NormalPair pair =
      (index & 2) ? normal_pair(block.word[2], block.word[3]) : normal_pair(block.word[0], block.word[1]);
  return (index & 1) ? pair.second : pair.first;
}

/// share * own + (1 - share) * other, rounded twice on every processor: compilers may fuse a bare
/// sum of products or not.
struct ShareBlend {
  float own_share, other_share;

  VT_HD explicit ShareBlend(double share)
      : own_share(static_cast<float>(share)), other_share(static_cast<float>(1 - share)) {}
  VT_HD float operator()(float own, float other) const { return std::fma(own_share, own, other_share * other); }
};

}  // namespace vitrine
