// The matrix product behind matmul, linear, convolution and part of attention: fixed blocks over
// our threads, each by one thread of oneDNN (f32, bf16) or OpenBLAS (f64).
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace vitrine {

/// A matrix as a product reads it: row-major with `leading` elements between rows, or the transpose
/// of one stored so.
template <class T>
struct MatrixView {
  const T* data;
  std::int64_t leading;
  bool transposed = false;
};

/// c (m, n) = a (m, k) b (k, n) + beta c on this thread alone; c is row-major with `c_leading`
/// elements between rows. T is float, double or bfloat16, which is added up in float; then c may be
/// bfloat16, rounded once, or float.
template <class T, class C = T>
void gemm_serial(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<T> a, MatrixView<T> b, C beta, C* c,
                 std::int64_t c_leading);

/// Whether this processor has instructions for products of bf16. Where it has none, bf16 is to be
/// widened to f32.
bool has_bf16_products();

/// Number of rows of c that one task computes. It depends on the sizes alone, so results do not
/// change with the threads.
std::int64_t gemm_rows_per_task(std::int64_t m, std::int64_t n, std::int64_t k, DType dtype);

/// The view of `a` that starts at row `row`.
template <class T>
MatrixView<T> rows_from(MatrixView<T> a, std::int64_t row) {
  a.data += a.transposed ? row : row * a.leading;
  return a;
}

/// The view of `a` that starts at column `column`.
template <class T>
MatrixView<T> columns_from(MatrixView<T> a, std::int64_t column) {
  a.data += a.transposed ? column * a.leading : column;
  return a;
}

}  // namespace vitrine
