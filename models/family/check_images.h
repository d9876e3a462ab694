// The check of what a model is given. Private to models/.
#pragma once

#include <optional>

#include "tensor/tensor.h"

namespace vitrine {

/// Error unless images are (B, channels, side, side); without `side`, images of any size will do.
inline void check_images(const char* model, const Tensor& images, std::int64_t channels,
                         std::optional<std::int64_t> side = std::nullopt) {
  const bool fits = images.dim() == 4 && images.size(1) == channels &&
                    (!side || (images.size(2) == *side && images.size(3) == *side));
  VT_CHECK(fits, "{}: images have shape {}, expected (B, {}, {}, {})", model, to_string(images.shape()), channels,
           side ? std::to_string(*side) : "H", side ? std::to_string(*side) : "W");
}

}  // namespace vitrine
