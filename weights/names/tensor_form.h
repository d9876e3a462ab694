// How another library lays out a tensor that we have in another form.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace vitrine {

/// Theirs -> ours. The forms of Google's JAX code have the outputs last, and h heads of d channels
/// in dims of their own.
enum class TensorForm : std::uint8_t {
  same,
  flat_grid,   // (1, H W, C) -> (1, H, W, C)
  kernel,      // (in, out) -> (out, in), and (height, width, in, out) -> (out, in, height, width)
  into_heads,  // (in, h, d) -> (h d, in)
  from_heads,  // (h, d, out) -> (out, h d)
  line         // any -> (all of it)
};

/// A tensor whose dims the form does not expect stays as it is, and will be reported.
Tensor to_our_form(const Tensor& theirs, TensorForm form);

/// (1, H, W, C) -> (1, H W, C), the only form that is written.
Tensor to_flat_grid(const Tensor& ours);

/// The shape in their file for a shape of ours; heads are counted as one dim, since no shape of
/// ours tells how many there are.
Shape shape_in_their_form(const Shape& ours, TensorForm form);

}  // namespace vitrine
