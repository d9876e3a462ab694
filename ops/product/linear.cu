// The fully connected layer: y = x weight^T + bias; x (..., in), weight (out, in), bias (out),
// y (..., out).
//
// The gradient: y[m, o] = bias[o] + sum over i of x[m, i] weight[o, i], so each product passes
// dy[m, o] on to one factor, times the other:
//   dx = dy weight,  dweight = dy^T x,  dbias = sum of dy over the rows
// The gradients are products again, ops that can be differentiated once more: no composition is
// needed.
#include <algorithm>
#include <utility>

#include "ops/drivers/elementwise.h"
#include "ops/ops.h"
#include "ops/product/gemm.h"
#include "ops/product/gemm_cuda.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

/// Each task fills its rows of y with the bias and lets the product add to them while they are in
/// cache.
template <class T>
void linear_cpu(const Tensor& x, const Tensor& weight, const T* bias, Tensor& y) {
  const std::int64_t m = x.size(0), k = x.size(1), n = weight.size(0);
  const std::int64_t rows = gemm_rows_per_task(m, n, k, x.dtype());
  const MatrixView<T> left{x.data<T>(), k}, right{weight.data<T>(), k, true};
  T* out = y.data<T>();
  parallel_for(m, rows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; bias && row < end; ++row) std::copy(bias, bias + n, out + row * n);
    gemm_serial<T>(end - begin, n, k, rows_from(left, begin), right, T(bias ? 1 : 0), out + begin * n, n);
  });
}

/// y = bias in every row
void fill_rows(Tensor& y, const Tensor& bias) {
  copy_into(y, bias.view_as(y.shape(), {0, bias.strides()[0]}, bias.offset()));
}

#if VT_CUDA
/// The bias is added by the product's own kernel, or, in the dtypes where cublasLt cannot do that,
/// before it.
void linear_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y) {
  const std::int64_t m = x.size(0), k = x.size(1), n = weight.size(0);
  CudaProduct product{.m = m,
                      .n = n,
                      .k = k,
                      .dtype = x.dtype(),
                      .a = {x.raw_data(), k},
                      .b = {weight.raw_data(), k, true},
                      .c = y.raw_data(),
                      .c_leading = n};
  if (bias.defined()) {
    product.epilogue = GemmEpilogue::bias;
    product.bias = bias.raw_data();
    if (!gemm_cuda_supports(product)) {
      product.epilogue = GemmEpilogue::none;
      product.beta = 1;
      fill_rows(y, bias);
    }
  }
  gemm_cuda(product);
}
#endif

/// x (M, in), weight (out, in) -> (M, out)
Tensor linear_forward(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  if (x.device().is_cpu() && x.dtype() == DType::bf16 && !has_bf16_products()) {
    const auto to_f32 = [](const Tensor& t) { return cast_data(t, DType::f32); };
    const OptionalTensor bias_f32 = bias ? OptionalTensor(to_f32(*bias)) : std::nullopt;
    return cast_data(linear_forward(to_f32(x), to_f32(weight), bias_f32), DType::bf16);
  }
  Tensor y = empty_for("linear", {x.size(0), weight.size(0)}, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  if (x.size(1) == 0) {
    fill(y, 0);
    if (bias) fill_rows(y, *bias);
    return y;
  }
  const Tensor rows = contiguous_data(x), columns = contiguous_data(weight);
  const Tensor added = bias ? contiguous_data(*bias) : Tensor();
#if VT_CUDA
  if (x.device().is_cuda()) {
    linear_cuda(rows, columns, added, y);
    return y;
  }
#endif
  dispatch_floating(x.dtype(), "linear", [&]<class T>(TypeTag<T>) {
    linear_cpu<T>(rows, columns, bias ? std::as_const(added).data<T>() : nullptr, y);
  });
  return y;
}

void check_operands(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  VT_CHECK(weight.dim() == 2 && x.dim() >= 1 && x.size(-1) == weight.size(1),
           "linear: x is {} and weight is {}, expected x (..., in) and weight (out, in)", to_string(x.shape()),
           to_string(weight.shape()));
  VT_CHECK(!bias || (bias->dim() == 1 && bias->size(0) == weight.size(0)),
           "linear: bias has shape {}, expected ({}) = first dimension of weight {}", to_string(bias->shape()),
           weight.size(0), to_string(weight.shape()));
  VT_CHECK(is_floating(x.dtype()) && weight.dtype() == x.dtype() && (!bias || bias->dtype() == x.dtype()),
           "linear: x is {}, weight {} and bias {}, expected one of f32, f64, bf16", name_of(x.dtype()),
           name_of(weight.dtype()), bias ? name_of(bias->dtype()) : "absent");
  check_one_device("linear", x, weight);
  if (bias) check_one_device("linear", x, *bias);
}

/// x (M, in)
Tensor linear_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  const Tensor bias_or_none = bias.value_or(Tensor());
  return record("linear", linear_forward(x, weight, bias), {x, weight, bias_or_none},
                [x = Saved(x, "linear"), weight = Saved(weight, "linear"), has_bias = bias.has_value()](
                    const Tensor& dy, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, matmul(dy, *weight));
                  if (context.wants(1)) context.add(1, matmul(transpose(dy), *x));
                  if (has_bias && context.wants(2)) context.add(2, sum(dy, {0}));
                });
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  check_operands(x, weight, bias);
  if (x.dim() == 2) return linear_2d(x, weight, bias);
  Shape shape = x.shape();
  shape[x.dim() - 1] = weight.size(0);
  const Shape flat{
      x.size(-1) == 0 ? element_count(shape) / std::max<std::int64_t>(1, weight.size(0)) : x.numel() / x.size(-1),
      x.size(-1)};
  return reshape(linear_2d(reshape(x, flat), weight, bias), shape);
}

}  // namespace vitrine
