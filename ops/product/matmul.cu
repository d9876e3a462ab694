// Matrix products over any batch dims: y = a b, (..., M, K) (..., K, N) -> (..., M, N).
#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "ops/drivers/elementwise.h"
#include "ops/ops.h"
#include "ops/product/gemm.h"
#include "ops/product/gemm_cuda.h"
#include "tensor/parallel.h"
#include "tensor/strided.h"

namespace vitrine {
namespace {

/// True if a library can read the last two dims in place: rows or columns are dense, and the other
/// stride spans them.
bool is_row_major(const Tensor& x) {
  return (x.size(-1) <= 1 || x.strides().back() == 1) &&
         (x.size(-2) <= 1 || x.strides()[x.dim() - 2] >= std::max<std::int64_t>(1, x.size(-1)));
}
bool is_column_major(const Tensor& x) {
  return (x.size(-2) <= 1 || x.strides()[x.dim() - 2] == 1) &&
         (x.size(-1) <= 1 || x.strides().back() >= std::max<std::int64_t>(1, x.size(-2)));
}

/// The operand with its last two dims readable by a library; a copy only where neither order fits.
Tensor readable(const Tensor& x) { return is_row_major(x) || is_column_major(x) ? x : clone(x); }

template <class T>
MatrixView<T> view_of(const Tensor& x, std::int64_t batch_offset) {
  const bool transposed = !is_row_major(x);
  const std::int64_t dense = transposed ? x.size(-2) : x.size(-1);
  const std::int64_t rows = transposed ? x.size(-1) : x.size(-2);
  const std::int64_t stride = transposed ? x.strides().back() : x.strides()[x.dim() - 2];
  // With a single row the stride is arbitrary, but the libraries still want one that spans the row.
  return {x.data<T>() + batch_offset, rows <= 1 ? std::max<std::int64_t>(1, dense) : stride, transposed};
}

/// Offset of batch `index` (row-major over `batch`) in a tensor whose batch strides are broadcast
/// to it.
std::int64_t batch_offset(std::int64_t index, const Shape& batch, const Strides& strides) {
  std::int64_t offset = 0;
  for (int d = batch.size() - 1; d >= 0; --d) {
    offset += index % batch[d] * strides[d];
    index /= batch[d];
  }
  return offset;
}

Dims leading_dims(const Dims& dims) {
  Dims result = dims;
  result.erase(result.size() - 1);
  result.erase(result.size() - 1);
  return result;
}

template <class T>
void matmul_cpu(const Tensor& a, const Tensor& b, Tensor& y, const Shape& batch) {
  const std::int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
  const Strides a_strides = broadcast_strides(leading_dims(a.shape()), leading_dims(a.strides()), batch);
  const Strides b_strides = broadcast_strides(leading_dims(b.shape()), leading_dims(b.strides()), batch);
  const std::int64_t rows = gemm_rows_per_task(m, n, k, a.dtype()), tasks = chunk_count(m, rows);
  T* out = y.data<T>();
  parallel_for(element_count(batch) * tasks, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t index = task / tasks, row = task % tasks * rows;
    const auto left = view_of<T>(a, batch_offset(index, batch, a_strides));
    const auto right = view_of<T>(b, batch_offset(index, batch, b_strides));
    gemm_serial<T>(std::min(rows, m - row), n, k, rows_from(left, row), right, T(0), out + (index * m + row) * n, n);
  });
}

/// Long sums for a small result, as in dweight = dy^T x: blocks of rows would each read all of b,
/// so the sum is split instead, into parts of fixed length that are added in order.
constexpr std::int64_t sum_part = 1024;

bool splits_the_sum(std::int64_t m, std::int64_t n, std::int64_t k) { return k >= 4 * sum_part && m * n <= k * 128; }

template <class T>
void matmul_split_cpu(const Tensor& a, const Tensor& b, Tensor& y) {
  const std::int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  using C = Compute<T>;
  const std::int64_t parts = chunk_count(k, sum_part);
  Tensor partial = empty({parts, m, n}, dtype_of<C>());
  C* partials = partial.data<C>();
  parallel_for(k, sum_part, [&](std::int64_t begin, std::int64_t end) {
    const auto left = columns_from(view_of<T>(a, 0), begin);
    const auto right = rows_from(view_of<T>(b, 0), begin);
    gemm_serial<T>(m, n, end - begin, left, right, C(0), partials + begin / sum_part * m * n, n);
  });
  T* out = y.data<T>();
  parallel_for(m * n, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = 1; part < parts; ++part) {
      const C* addend = partials + part * m * n;
      for (std::int64_t i = begin; i < end; ++i) partials[i] += addend[i];
    }
    for (std::int64_t i = begin; i < end; ++i) out[i] = static_cast<T>(partials[i]);
  });
}

template <class T>
void matmul_any_cpu(const Tensor& a, const Tensor& b, Tensor& y, const Shape& batch) {
  if (batch.empty() && splits_the_sum(a.size(-2), b.size(-1), a.size(-1))) return matmul_split_cpu<T>(a, b, y);
  matmul_cpu<T>(a, b, y, batch);
}

#if VT_CUDA
/// Batches whose matrices lie at even distances in a, b and y are one product to cublasLt. Where
/// broadcasting makes several such groups of them, as in (B, 1, M, K) (H, K, N), the largest is one
/// product and the others are a loop.
template <class T>
void matmul_cuda(const Tensor& a, const Tensor& b, Tensor& y, const Shape& batch) {
  const std::int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
  const StridedLoop<3> groups = collapse<3>(
      batch, {broadcast_strides(leading_dims(a.shape()), leading_dims(a.strides()), batch),
              broadcast_strides(leading_dims(b.shape()), leading_dims(b.strides()), batch), leading_dims(y.strides())});
  Shape others(std::span(groups.size, static_cast<std::size_t>(groups.dims)));
  const auto largest = static_cast<int>(std::max_element(others.begin(), others.end()) - others.begin());
  CudaProduct product{.m = m, .n = n, .k = k, .dtype = y.dtype(), .c_leading = n};
  if (groups.dims > 0) {
    product.batch = std::exchange(others[largest], 1);
    product.a_stride = groups.stride[0][largest];
    product.b_stride = groups.stride[1][largest];
    product.c_stride = groups.stride[2][largest];
  }
  const auto offset = [&](std::int64_t index, int operand) {
    const std::int64_t* strides = groups.stride[operand];
    return batch_offset(index, others, Strides(std::span(strides, static_cast<std::size_t>(groups.dims))));
  };
  for (std::int64_t index = 0; index < element_count(others); ++index) {
    const auto left = view_of<T>(a, offset(index, 0)), right = view_of<T>(b, offset(index, 1));
    product.a = {left.data, left.leading, left.transposed};
    product.b = {right.data, right.leading, right.transposed};
    product.c = y.data<T>() + offset(index, 2);
    gemm_cuda(product);
  }
}
#endif

Tensor matmul_forward(const Tensor& a, const Tensor& b, const Shape& batch) {
  if (a.device().is_cpu() && a.dtype() == DType::bf16 && !has_bf16_products()) {  // f32 holds products of bf16 exactly
    return cast_data(matmul_forward(cast_data(a, DType::f32), cast_data(b, DType::f32), batch), DType::bf16);
  }
  Shape shape = batch;
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  Tensor y = empty_for("matmul", shape, a.dtype(), a.device());
  if (a.size(-1) == 0) fill(y, 0);
  if (y.numel() == 0 || a.size(-1) == 0) return y;
  const Tensor left = readable(a), right = readable(b);
#if VT_CUDA
  if (a.device().is_cuda()) {
    dispatch_floating(a.dtype(), "matmul",
                      [&](auto tag) { matmul_cuda<typename decltype(tag)::type>(left, right, y, batch); });
    return y;
  }
#endif
  dispatch_floating(a.dtype(), "matmul", [&]<class T>(TypeTag<T>) { matmul_any_cpu<T>(left, right, y, batch); });
  return y;
}

void check_operands(const Tensor& a, const Tensor& b) {
  VT_CHECK(a.dim() >= 2 && b.dim() >= 2, "matmul: a is {} and b is {}, expected at least 2 dims each",
           to_string(a.shape()), to_string(b.shape()));
  VT_CHECK(a.size(-1) == b.size(-2),
           "matmul: a is {} and b is {}, expected the last dim of a = the second to last of b", to_string(a.shape()),
           to_string(b.shape()));
  VT_CHECK(a.dtype() == b.dtype() && is_floating(a.dtype()),
           "matmul: a is {} and b is {}, expected one of f32, f64, bf16", name_of(a.dtype()), name_of(b.dtype()));
  check_one_device("matmul", a, b);
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_operands(a, b);
  if (b.dim() == 2 && a.dim() > 2 && a.numel() > 0) {  // one product over all rows, and no batch of gradients to sum
    Shape shape = a.shape();
    shape[a.dim() - 1] = b.size(-1);
    return reshape(matmul(reshape(a, {-1, a.size(-1)}), b), shape);
  }
  const Shape batch = broadcast_shapes(leading_dims(a.shape()), leading_dims(b.shape()), "matmul");
  return record("matmul", matmul_forward(a, b, batch), {a, b},
                [a = Saved(a, "matmul"), b = Saved(b, "matmul")](const Tensor& dy, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, sum_to(matmul(dy, transpose(*b)), a->shape()));
                  if (context.wants(1)) context.add(1, sum_to(matmul(transpose(*a), dy), b->shape()));
                });
}

}  // namespace vitrine
