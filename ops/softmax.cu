// Softmax and its logarithm along any dim. Of each row x (K) along that dim:
//
//   softmax      y[i] = e^x[i] / sum over j of e^x[j]
//   log_softmax  y[i] = x[i] - ln(sum over j of e^x[j])
//
// The largest x is taken from all of a row first, which changes nothing but keeps e^x from
// overflowing. A row of -infinity has no such quotient: its softmax is 0, with gradient 0.
#include <vector>

#include "ops/composed.h"
#include "ops/drivers/lanes.h"
#include "ops/drivers/log_sum_exp.h"
#include "ops/drivers/warp_rows.h"
#include "ops/ops.h"
#include "tensor/parallel.h"

namespace vitrine {

// ---- The definitions ----

/// x - logsumexp(x); where that is -infinity, for a row of -infinity, x itself stays.
Tensor log_softmax_composed(const Tensor& x, int dim) {
  const auto scalar = [&](double value) { return full({}, value, x.dtype(), x.device()); };
  const Tensor total = logsumexp(x, {dim}, true);
  const Tensor is_masked = equal(total, scalar(-std::numeric_limits<double>::infinity()));
  return x - where(is_masked, scalar(0), total);
}

Tensor softmax_composed(const Tensor& x, int dim) { return exp(log_softmax_composed(x, dim)); }

// ---- The gradients, from the output alone ----
//
// softmax: every y[j] depends on every x[i]; its derivative is y[j] ([i = j] - y[i]). Times dy[j],
// summed:
//   dx = y (dy - sum(dy y))
// log_softmax: y[j] depends on x[j] directly, and on every x[i] through the logarithm, whose
// derivative is e^x[i] / sum = e^y[i]:
//   dx = dy - e^y sum(dy)
// Why: y stays the same where all of a row is shifted, so the dx of a row add up to 0.

namespace {

// ---- CPU ----

template <class T, class C = Compute<T>>
void softmax_row(const T* __restrict x, T* __restrict y, std::int64_t K, C* __restrict exponential) {
  const C max = lane_max<C>(K, [&](auto i) { return static_cast<C>(x[i]); });
  if (max == -std::numeric_limits<C>::infinity()) {
    std::fill(y, y + K, static_cast<T>(C(0)));
    return;
  }
  for (std::int64_t i = 0; i < K; ++i) exponential[i] = math::exp(static_cast<C>(x[i]) - max);
  const C scale = 1 / lane_sum<C>(K, [&](auto i) { return exponential[i]; });
  for (std::int64_t i = 0; i < K; ++i) y[i] = static_cast<T>(exponential[i] * scale);
}

template <class T, class C = Compute<T>>
void softmax_backward_row(const T* __restrict y, const T* __restrict dy, T* __restrict dx, std::int64_t K) {
  const C dot = lane_sum<C>(K, [&](auto i) { return static_cast<C>(dy[i]) * static_cast<C>(y[i]); });
  for (std::int64_t i = 0; i < K; ++i) {
    dx[i] = static_cast<T>(static_cast<C>(y[i]) * (static_cast<C>(dy[i]) - dot));
  }
}

template <class T, class C = Compute<T>>
void log_softmax_row(const T* __restrict x, T* __restrict y, std::int64_t K, C*) {
  const LogSumExp<C> row = log_sum_exp_row(x, K);
  for (std::int64_t i = 0; i < K; ++i) y[i] = static_cast<T>(row.log_probability(static_cast<C>(x[i])));
}

template <class T, class C = Compute<T>>
void log_softmax_backward_row(const T* __restrict y, const T* __restrict dy, T* __restrict dx, std::int64_t K) {
  const C total = lane_sum<C>(K, [&](auto i) { return static_cast<C>(dy[i]); });
  for (std::int64_t i = 0; i < K; ++i) {
    dx[i] = static_cast<T>(static_cast<C>(dy[i]) - math::exp(static_cast<C>(y[i])) * total);
  }
}

// ---- CUDA: one warp per row ----

#if VT_CUDA
template <class T, class C = Compute<T>>
__global__ void softmax_kernel(const T* x, T* y, std::int64_t rows, std::int64_t K, bool logarithm) {
  for_each_row_of_grid(rows, [&](std::int64_t row) {
    const T* in = x + row * K;
    const LogSumExp<C> total = warp_log_sum_exp(in, K);
    const C scale = math::exp(-total.log_total);
    const auto softmax = [&](std::int64_t, C value) {
      return logarithm ? total.log_probability(value) : math::exp(value - total.max) * scale;
    };
    warp_map(K, y + row * K, softmax, in);
  });
}

template <class T, class C = Compute<T>>
__global__ void softmax_backward_kernel(const T* y, const T* dy, T* dx, std::int64_t rows, std::int64_t K,
                                        bool logarithm) {
  for_each_row_of_grid(rows, [&](std::int64_t row) {
    const T *out = y + row * K, *dout = dy + row * K;
    const auto term = [&](C y_i, C dy_i) { return dy_i * (logarithm ? C(1) : y_i); };
    const C total = warp_sum_of(K, term, out, dout);
    const auto gradient = [&](std::int64_t, C y_i, C dy_i) {
      return logarithm ? dy_i - math::exp(y_i) * total : y_i * (dy_i - total);
    };
    warp_map(K, dx + row * K, gradient, out, dout);
  });
}
#endif

// ---- The drivers: rows along the last dim; another dim is moved there first, by a copy ----

enum class Form { softmax, log_softmax };

const char* name_of(Form form) { return form == Form::softmax ? "softmax" : "log_softmax"; }

/// x with `dim` and the last dim exchanged, row-major.
Tensor rows_along(const Tensor& x, int dim) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  std::swap(shape[dim], shape[x.dim() - 1]);
  std::swap(strides[dim], strides[x.dim() - 1]);
  return contiguous_data(x.view_as(shape, strides, x.offset()));
}

/// body(row, scratch of K elements) for all rows, in chunks of about 2^14 elements.
template <class C, class Body>
void for_each_row(std::int64_t rows, std::int64_t K, const Body& body) {
  parallel_for(rows, std::max<std::int64_t>(1, elements_per_chunk / K), [&](std::int64_t begin, std::int64_t end) {
    std::vector<C> scratch(static_cast<std::size_t>(K));
    for (std::int64_t row = begin; row < end; ++row) body(row, scratch.data());
  });
}

/// All inputs row-major, (rows, K).
Tensor forward_rows(Form form, const Tensor& x) {
  Tensor y = empty_like(x);
  if (x.numel() == 0) return y;
  const std::int64_t K = x.size(-1);
  dispatch_floating(x.dtype(), name_of(form), [&]<class T>(TypeTag<T>) {
    const T* in = x.data<T>();
    T* out = y.data<T>();
#if VT_CUDA
    if (x.device().is_cuda()) {
      launch_rows(softmax_kernel<T>, x.numel() / K, in, out, x.numel() / K, K, form == Form::log_softmax);
      return;
    }
#endif
    const auto kernel = form == Form::softmax ? softmax_row<T> : log_softmax_row<T>;
    for_each_row<Compute<T>>(x.numel() / K, K,
                             [&](auto row, auto* scratch) { kernel(in + row * K, out + row * K, K, scratch); });
  });
  return y;
}

Tensor backward_rows(Form form, const Tensor& y, const Tensor& dy) {
  Tensor dx = empty_like(y);
  if (y.numel() == 0) return dx;
  const std::int64_t K = y.size(-1);
  dispatch_floating(y.dtype(), name_of(form), [&]<class T>(TypeTag<T>) {
    const T *out = y.data<T>(), *dout = dy.data<T>();
    T* din = dx.data<T>();
#if VT_CUDA
    if (y.device().is_cuda()) {
      launch_rows(softmax_backward_kernel<T>, y.numel() / K, out, dout, din, y.numel() / K, K,
                  form == Form::log_softmax);
      return;
    }
#endif
    const auto kernel = form == Form::softmax ? softmax_backward_row<T> : log_softmax_backward_row<T>;
    for_each_row<Compute<T>>(y.numel() / K, K,
                             [&](auto row, auto*) { kernel(out + row * K, dout + row * K, din + row * K, K); });
  });
  return dx;
}

/// Both public ops: the output is kept for backward.
Tensor apply(Form form, const Tensor& x, int dim) {
  const char* op = name_of(form);
  VT_CHECK(x.dim() > 0, "{}: x has shape (), expected at least one dimension", op);
  VT_CHECK(is_floating(x.dtype()), "{}: dtype is {}, expected f32, f64 or bf16", op, vitrine::name_of(x.dtype()));
  const int d = normalize_dim(dim, x.dim(), op);
  if (is_recording_twice()) return form == Form::softmax ? softmax_composed(x, d) : log_softmax_composed(x, d);
  const Tensor y = rows_along(forward_rows(form, rows_along(x, d)), d);
  return record(op, y, {x}, [form, d, y = Saved(y, op)](const Tensor& dy, BackwardContext& context) {
    context.add(0, rows_along(backward_rows(form, rows_along(*y, d), rows_along(dy, d)), d));
  });
}

}  // namespace

Tensor softmax(const Tensor& x, int dim) { return apply(Form::softmax, x, dim); }

Tensor log_softmax(const Tensor& x, int dim) { return apply(Form::log_softmax, x, dim); }

}  // namespace vitrine
