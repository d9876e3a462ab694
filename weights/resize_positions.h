// What depends on the number of positions, made to fit another number: position embeddings for
// images of another size, tables of relative position biases for windows of another size.
#pragma once

#include "tensor/tensor.h"

namespace vitrine {

/// How position embeddings are resized.
///
/// `bicubic` is timm's (timm/layers/pos_embed.py, resample_abs_pos_embed): antialiased, the edges
/// of both grids aligned.
///
/// `bilinear` is that of the ViT paper's own code (Dosovitskiy et al. 2021, section 3.2, "2D
/// interpolation"; google-research/vision_transformer, vit_jax/checkpoint.py, scipy.ndimage.zoom
/// with order=1): linear, no antialias, the outermost places of both grids aligned: output i of
/// `to` reads place i (from - 1) / (to - 1), a single output the first. Where rounding leads scipy
/// past the last place (from 28 to 24 places), it writes 0 there; ours does not.
enum class PositionFilter { bicubic, bilinear };

/// Position embeddings (1, P + g g, D) of a square grid -> (1, P + G G, D); the first P =
/// `prefix_tokens` rows, of class and distillation token, are kept. Error where the rows beside the
/// prefix are no square.
Tensor resize_position_embedding(const Tensor& embedding, std::int64_t grid, std::int64_t prefix_tokens,
                                 PositionFilter filter = PositionFilter::bicubic);

/// Position embeddings that are a map, (1, H, W, D) -> (1, grid, grid, D); bicubic as timm's
/// resample_abs_pos_embed_nhwc.
Tensor resize_position_map(const Tensor& map, std::int64_t grid, PositionFilter filter = PositionFilter::bicubic);

/// Bias tables ((2 w - 1)^2, heads) of windows of w x w -> ((2 W - 1)^2, heads). Offsets of the
/// small window are placed in the large one in a geometric progression, dense in the middle where
/// attention is most, and interpolated linearly between; equal to timm's resize_rel_pos_bias_table,
/// which comes from BEiT (Bao et al. 2022). A smaller window keeps the middle. Error where the rows
/// are no odd square.
Tensor resize_bias_table(const Tensor& table, std::int64_t window);

}  // namespace vitrine
