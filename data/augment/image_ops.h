// Operations on the values of an 8-bit image, equal to Pillow's ImageOps, ImageEnhance and
// ImageFilter to the last bit.
//
//   image = equalize(std::move(image));
//   image = posterize(std::move(image), 4);       // keeps the 4 highest bits of each value
//
// All take and give images with three channels, and treat each channel alone unless they say
// otherwise. Anything else than three channels is an Error.
#pragma once

#include "data/image/image.h"

namespace vitrine {

Image invert(Image image);                      // 255 - v
Image solarize(Image image, double threshold);  // v where v < threshold, else 255 - v
Image solarize_add(Image image, int amount);    // min(255, v + amount) where v < 128, else v
Image posterize(Image image, int bits);         // the highest 0 to 8 bits of v; 0 gives black

/// Stretches each channel so that its lowest value becomes 0 and its highest 255.
Image auto_contrast(Image image);

/// Maps each channel so that every range of values holds about as many pixels.
Image equalize(Image image);

/// All three channels become the luma.
Image grayscale(Image image);

/// A factor scales the distance of each value from black, from the mean luma of the image, and from
/// the luma of its pixel: 0 = only that is left, 1 = unchanged, above 1 = more contrast.
Image adjust_brightness(Image image, double factor);
Image adjust_contrast(Image image, double factor);
Image adjust_saturation(Image image, double factor);

/// 0 = smoothed by the 3 x 3 kernel (1 1 1; 1 5 1; 1 1 1) / 13, 1 = unchanged, 2 = sharpened. The
/// border stays.
Image adjust_sharpness(Image image, double factor);

/// Gaussian blur with standard deviation `radius` in pixels, made of three box blurs in each
/// direction (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
/// filtering", 2011). Outside, the border repeats.
Image gaussian_blur(Image image, double radius);

/// Left becomes right.
Image mirror(Image image);

}  // namespace vitrine
