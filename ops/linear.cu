// The fully connected layer: y = x weight^T + bias; x (..., in), weight (out, in), bias (out) -> y (..., out).
#include <algorithm>
#include <utility>

#include "ops/gemm.h"
#include "ops/ops.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

/// Each task fills its rows of y with the bias and lets the product add to them while they are in cache.
template <class T>
void linear_cpu(const Tensor& x, const Tensor& weight, const T* bias, Tensor& y) {
  const std::int64_t m = x.size(0), k = x.size(1), n = weight.size(0);
  const std::int64_t rows = gemm_rows_per_task(m, n, k);
  const MatrixView<T> left{x.data<T>(), k}, right{weight.data<T>(), k, true};
  T* out = y.data<T>();
  parallel_for(m, rows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; bias && row < end; ++row) std::copy(bias, bias + n, out + row * n);
    gemm_serial<T>(end - begin, n, k, rows_from(left, begin), right, bias ? T(1) : T(0), out + begin * n, n);
  });
}

/// x (M, in), weight (out, in) -> (M, out)
Tensor linear_forward(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  if (x.dtype() == DType::bf16) {
    const auto to_f32 = [](const Tensor& t) { return cast_data(t, DType::f32); };
    const OptionalTensor bias_f32 = bias ? OptionalTensor(to_f32(*bias)) : std::nullopt;
    return cast_data(linear_forward(to_f32(x), to_f32(weight), bias_f32), DType::bf16);
  }
  Tensor y = empty({x.size(0), weight.size(0)}, x.dtype());
  if (y.numel() == 0) return y;
  if (x.size(1) == 0) {
    fill(y, 0);
    if (bias) add_into(y, bias->view_as(y.shape(), {0, bias->strides()[0]}, bias->offset()));
    return y;
  }
  const Tensor rows = contiguous_data(x), columns = contiguous_data(weight);
  const Tensor added = bias ? contiguous_data(*bias) : Tensor();
  if (x.dtype() == DType::f64) {
    linear_cpu<double>(rows, columns, bias ? std::as_const(added).data<double>() : nullptr, y);
  } else {
    linear_cpu<float>(rows, columns, bias ? std::as_const(added).data<float>() : nullptr, y);
  }
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
  VT_CHECK(x.device().is_cpu() && weight.device().is_cpu() && (!bias || bias->device().is_cpu()),
           "linear: x is on {} and weight on {}, expected cpu", to_string(x.device()), to_string(weight.device()));
}

/// x (M, in)
Tensor linear_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  const Tensor bias_or_none = bias.value_or(Tensor());
  return record("linear", linear_forward(x, weight, bias), {x, weight, bias_or_none},
                [x = Saved(x, "linear"), weight = Saved(weight, "linear"), has_bias = bias.has_value()](
                    const Tensor& dy, Chain& chain) {
                  if (chain.wants(0)) chain.add(0, matmul(dy, *weight));
                  if (chain.wants(1)) chain.add(1, matmul(transpose(dy), *x));
                  if (has_bias && chain.wants(2)) chain.add(2, sum(dy, {0}));
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
