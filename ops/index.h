// Indexing by indices that the library has made itself, and so need no check.
#pragma once

#include "tensor/tensor.h"

namespace vitrine {

/// index_select (ops/ops.h) without its check that every index lies within x: the caller guarantees
/// it. The check reads indices back from a GPU, and a call that does so cannot be recorded in a
/// CUDA graph.
Tensor index_select_unchecked(const Tensor& x, int dim, const Tensor& index);

}  // namespace vitrine
