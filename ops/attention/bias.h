// The additive bias of attention and its gradient. A bias may be broadcast over samples, heads,
// queries or keys, so its gradient is a sum of score gradients over those dimensions. The kernels
// compute it as partial sums, each over a slice of the batch, which are added up at the end, in an
// order that depends on the sizes alone.
#pragma once

#include <algorithm>

#include "ops/attention/operands.h"
#include "ops/ops.h"

namespace vitrine {

/// `scores` is (B, H, N, M).
inline void check_bias(const char* op, const Tensor& bias, const Shape& scores) {
  bool fits = bias.dim() <= 4;
  for (int d = 1; fits && d <= std::min(bias.dim(), 3); ++d)
    fits = bias.size(-d) == 1 || bias.size(-d) == scores[4 - d];
  if (fits && bias.dim() == 4) fits = bias.size(0) == scores[0] || (bias.size(0) > 0 && scores[0] % bias.size(0) == 0);
  VT_CHECK(fits,
           "{}: bias has shape {}, expected one that broadcasts to (B, H, N, M) = {}, or G of them where G divides B",
           op, to_string(bias.shape()), to_string(scores));
}

/// A view of the bias as (G, H, N, M), or an undefined tensor where there is no bias.
inline Tensor broadcast_bias(const OptionalTensor& bias, const Shape& scores) {
  if (!bias) return Tensor();
  Shape shape = scores;
  shape[0] = bias->dim() == 4 ? bias->size(0) : 1;
  return bias->view_as(shape, broadcast_strides(bias->shape(), bias->strides(), shape), bias->offset());
}

template <class T>
Bias<T> bias_of(const Tensor& bias, const Strides& strides, std::int64_t groups) {
  return {const_cast<std::remove_const_t<T>*>(bias.data<std::remove_const_t<T>>()),
          strides[0],
          strides[1],
          strides[2],
          strides[3],
          groups};
}

// ---- Partial sums of the gradient ----

/// Zeros (parts, G, 1 or H, 1 or N, 1 or M) for a bias of shape `bias_shape`: one part for each
/// sample that shares a bias, but no more parts than give the CPU 16 tasks for each head, and a
/// large GPU eight blocks for each of its 132 multiprocessors.
inline Tensor bias_partials(const Shape& bias_shape, std::int64_t B, DType dtype, Device device) {
  Shape shape = bias_shape;
  while (shape.size() < 4) shape.insert(0, 1);
  const std::int64_t groups = std::max<std::int64_t>(1, shape[0]), heads = std::max<std::int64_t>(1, shape[1]);
  const std::int64_t tasks = device.is_cpu() ? 16 : 8 * 132 / heads;
  const std::int64_t most = std::max<std::int64_t>(1, tasks / groups);
  shape.insert(0, std::clamp<std::int64_t>(B / groups, 1, most));
  return zeros(shape, dtype, device);
}

/// The partial sums as the kernels add to them: with stride 0 in the dimensions in which the bias
/// is broadcast.
template <class C>
BiasPartials<C> partials_of(const Tensor& partials) {
  Strides strides = Dims::filled(4, 0);
  for (int d = 0; d < 4; ++d) strides[d] = partials.size(d + 1) == 1 ? 0 : partials.strides()[d + 1];
  return {bias_of<C>(partials, strides, partials.size(1)), partials.size(0), partials.strides()[0]};
}

/// The gradient in the bias's own shape.
inline Tensor reduce_partials(const Tensor& partials, const Shape& bias_shape, DType dtype) {
  return reshape(cast(sum(partials, {0}), dtype), bias_shape);
}

}  // namespace vitrine
