// The kernel of a first convolution, made to fit images with another number of channels.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace vitrine {

/// Kernel (D, 3, h, w) for red, green and blue -> (D, channels, h, w), as timm's adapt_input_conv:
/// for 1 channel the sum over the colours, so that a grey image gives what its three equal channels
/// gave; for others red, green, blue in turn, times 3 / channels, so that equal channels do.
Tensor adapt_input_channels(const Tensor& kernel, std::int64_t channels);

}  // namespace vitrine
