// The kernel of a patch embedding, made to fit patches of another size.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace vitrine {

/// Kernel (D, C, h, w) -> (D, C, height, width), for patches of that size: w' = pinv(B^T) w,
/// where B resizes a patch (bicubic with antialias). Of a larger patch the token is then that of
/// the patch before it was enlarged; of a smaller one it differs least on average over white noise.
/// Beyer et al. 2023, "FlexiViT: One model for all patch sizes", section 3 (PI-resize); timm's
/// resample_patch_embed. Computed in f64. Error where the kernel does not have four dims or a size
/// is not above 0.
Tensor resize_patch_kernel(const Tensor& kernel, std::int64_t height, std::int64_t width);

}  // namespace vitrine
