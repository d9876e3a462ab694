// Patch embeddings for patches of another size: the pseudo-inverse of a resize, one axis after the
// other.
#include "weights/resize_patches.h"

#include <cmath>

#include "autograd/tape.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

/// B^T (from, to) f64 of the resize B of one axis: row i is what interpolate makes of a column with
/// a 1 at pixel i.
Tensor transposed_resize(std::int64_t from, std::int64_t to) {
  Tensor columns = zeros({1, from, from, 1}, DType::f64);  // a channel for every pixel
  for (std::int64_t i = 0; i < from; ++i) columns.data<double>()[i * from + i] = 1;
  return reshape(interpolate(columns, to, 1, InterpolationMode::bicubic, true), {from, to});
}

/// A^-1 Y for a symmetric positive definite A (n, n) and Y (n, m), both f64. Cholesky: A = L L^T
/// with L below the diagonal, then L Z = Y from the top and L^T X = Z from the bottom.
Tensor solve(const Tensor& A, const Tensor& Y) {
  const std::int64_t n = A.size(0), m = Y.size(1);
  Tensor factor = clone(contiguous(A)), result = clone(contiguous(Y));
  double *L = factor.data<double>(), *x = result.data<double>();
  for (std::int64_t j = 0; j < n; ++j) {
    for (std::int64_t i = j; i < n; ++i) {
      double sum = L[i * n + j];
      for (std::int64_t k = 0; k < j; ++k) sum -= L[i * n + k] * L[j * n + k];
      VT_CHECK(i > j || sum > 0, "resize_patch_kernel: pivot {} of {} is {}, expected a resize of full rank", j, n,
               sum);
      L[i * n + j] = i == j ? std::sqrt(sum) : sum / L[j * n + j];
    }
  }
  const auto subtract = [&](std::int64_t row, double times, std::int64_t other) {
    for (std::int64_t c = 0; c < m; ++c) x[row * m + c] -= times * x[other * m + c];
  };
  const auto divide = [&](std::int64_t row) {
    for (std::int64_t c = 0; c < m; ++c) x[row * m + c] /= L[row * n + row];
  };
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < i; ++k) subtract(i, L[i * n + k], k);
    divide(i);
  }
  for (std::int64_t i = n - 1; i >= 0; --i) {
    for (std::int64_t k = i + 1; k < n; ++k) subtract(i, L[k * n + i], k);
    divide(i);
  }
  return result;
}

/// pinv(B^T) (to, from) of the resize of one axis. B has full rank, and its largest singular value
/// is at most 3.4 times the smallest for all sizes up to 48. So B^T B, or B B^T where B has fewer
/// rows than columns, is conditioned well enough (3.4^2 = 12) to be inverted as it stands, without
/// a singular value decomposition.
Tensor pseudo_inverse(std::int64_t from, std::int64_t to) {
  const Tensor Bt = transposed_resize(from, to), B = transpose(Bt, 0, 1);
  if (to > from) return transpose(solve(matmul(Bt, B), Bt), 0, 1);  // B (B^T B)^-1
  return solve(matmul(B, Bt), B);                                   // (B B^T)^-1 B
}

}  // namespace

Tensor resize_patch_kernel(const Tensor& kernel, std::int64_t height, std::int64_t width) {
  VT_CHECK(kernel.dim() == 4 && kernel.numel() > 0 && height > 0 && width > 0,
           "resize_patch_kernel: the kernel has shape {} and goes to {} x {}, expected (D, C, h, w) and sizes above 0",
           to_string(kernel.shape()), height, width);
  const std::int64_t D = kernel.size(0), C = kernel.size(1), h = kernel.size(2), w = kernel.size(3);
  if (h == height && w == width) return kernel;
  const PauseRecording pause;
  // A patch X becomes B_h X B_w^T. That is the Kronecker product of two matrices, and so is the
  // pseudo-inverse.
  const Tensor pixels = reshape(cast_data(kernel, DType::f64), {D * C, h, w});
  const Tensor rows = matmul(pseudo_inverse(h, height), pixels);  // (D C, height, w)
  const Tensor resized = matmul(rows, transpose(pseudo_inverse(w, width), 0, 1));
  return cast_data(reshape(resized, {D, C, height, width}), kernel.dtype());
}

}  // namespace vitrine
