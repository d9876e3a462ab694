// Convolution of images, y[b, o, p, q] = sum over c, i, j of weight[o, c, i, j] x[b, c, p stride +
// i - padding, ...].
//
// It is linear in x and in weight. So with any dy, t = sum(dy y) is a scalar that is linear in dy,
// x and weight, and its three derivatives are all there is to convolution:
//
//   forward(x, weight)          = dt/ddy,      input_gradient(dy, weight) = dt/dx,      weight_gradient(dy, x) = dt/dweight
//
// Each is an op whose gradients are the other two, so that it can be differentiated as often as one
// likes.
#include "ops/conv/conv_cpu.h"
#include "ops/conv/conv_cuda.h"
#include "ops/drivers/elementwise.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

using conv::ConvShape;

// ---- The three products, on row-major tensors ----

/// y = bias in every pixel of its channel; 0 where there is no bias
void fill_channels(Tensor& y, const Tensor& bias) {
  if (!bias.defined()) return fill(y, 0);
  copy_into(y, bias.view_as(y.shape(), {0, bias.strides()[0], 0, 0}, bias.offset()));
}

/// bf16 on the CPU is computed in f32: products of bf16 are exact there, and the result is rounded
/// once.
template <class T>
constexpr bool is_computed_on_cpu = !std::is_same_v<T, bfloat16>;

template <class T>
void forward(const ConvShape& s, const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y) {
#if VT_CUDA
  if (x.device().is_cuda()) {
    if (s.is_matrix_product() && bias.defined()) fill_channels(y, bias);
    const T* added = bias.defined() ? bias.data<T>() : nullptr;
    return conv::forward_cuda<T>(s, x.device(), x.data<T>(), weight.data<T>(), added, y.data<T>());
  }
#endif
  if constexpr (is_computed_on_cpu<T>) {
    fill_channels(y, bias);
    conv::forward_cpu<T>(s, x.data<T>(), weight.data<T>(), y.data<T>());
  }
}

template <class T>
void input_gradient(const ConvShape& s, const Tensor& dy, const Tensor& weight, Tensor& dx) {
#if VT_CUDA
  if (dy.device().is_cuda()) {
    return conv::input_gradient_cuda<T>(s, dy.device(), dy.data<T>(), weight.data<T>(), dx.data<T>());
  }
#endif
  if constexpr (is_computed_on_cpu<T>) {
    fill(dx, 0);
    conv::input_gradient_cpu<T>(s, dy.data<T>(), weight.data<T>(), dx.data<T>());
  }
}

template <class T>
Tensor weight_gradient(const ConvShape& s, const Tensor& dy, const Tensor& x) {
  const bool on_cuda = x.device().is_cuda();
  std::int64_t images = conv::images_per_part(s);
#if VT_CUDA
  if (on_cuda) images = conv::images_per_pass(s);
#endif
  Tensor partial = empty({chunk_count(s.B, images), s.filters, s.C / s.groups, s.kernel_height, s.kernel_width},
                         dtype_of<T>(), x.device());
#if VT_CUDA
  if (on_cuda) conv::weight_gradient_cuda<T>(s, x.device(), dy.data<T>(), x.data<T>(), partial.data<T>());
#endif
  if constexpr (is_computed_on_cpu<T>) {
    if (!on_cuda) conv::weight_gradient_cpu<T>(s, dy.data<T>(), x.data<T>(), partial.data<T>());
  }
  return sum(partial, {0});
}

/// Calls body<T>(a, b, c) with row-major operands, of f32 for bf16 on the CPU. c may be undefined.
template <class Body>
Tensor compute(const char* op, const Tensor& a, const Tensor& b, const Tensor& c, const Body& body) {
  const bool widen = a.device().is_cpu() && a.dtype() == DType::bf16;
  const auto operand = [&](const Tensor& t) {
    return t.defined() ? contiguous_data(widen ? cast_data(t, DType::f32) : t) : t;
  };
  const Tensor first = operand(a), second = operand(b), third = operand(c);
  const Tensor y = dispatch_floating(first.dtype(), op, [&](auto tag) { return body(tag, first, second, third); });
  return cast_data(y, a.dtype());
}

// ---- The ops ----

Tensor conv2d_of(const ConvShape& s, const Tensor& x, const Tensor& weight, const Tensor& bias);
Tensor conv2d_input_gradient(const ConvShape& s, const Tensor& dy, const Tensor& weight);
Tensor conv2d_weight_gradient(const ConvShape& s, const Tensor& dy, const Tensor& x);

/// x (B, C, H, W), weight (O, C/g, kh, kw) -> (B, O, H', W')
Tensor conv2d_of(const ConvShape& s, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Tensor y = compute("conv2d", x, weight, bias, [&]<class T>(TypeTag<T>, auto& a, auto& b, auto& c) {
    Tensor result = empty({s.B, s.filters, s.out_height, s.out_width}, a.dtype(), a.device());
    if (result.numel() > 0) forward<T>(s, a, b, c, result);
    return result;
  });
  return record("conv2d", y, {x, weight, bias},
                [s, x = Saved(x, "conv2d"), weight = Saved(weight, "conv2d"), has_bias = bias.defined()](
                    const Tensor& dy, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, conv2d_input_gradient(s, dy, *weight));
                  if (context.wants(1)) context.add(1, conv2d_weight_gradient(s, dy, *x));
                  if (has_bias && context.wants(2)) context.add(2, sum(dy, {0, 2, 3}));
                });
}

/// dy (B, O, H', W'), weight (O, C/g, kh, kw) -> dx (B, C, H, W)
Tensor conv2d_input_gradient(const ConvShape& s, const Tensor& dy, const Tensor& weight) {
  const char* op = "conv2d_input_gradient";
  const Tensor dx = compute(op, dy, weight, Tensor(), [&]<class T>(TypeTag<T>, auto& a, auto& b, auto&) {
    Tensor result = empty({s.B, s.C, s.H, s.W}, a.dtype(), a.device());
    if (result.numel() > 0) input_gradient<T>(s, a, b, result);
    return result;
  });
  return record(op, dx, {dy, weight},
                [s, dy = Saved(dy, op), weight = Saved(weight, op)](const Tensor& d, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, conv2d_of(s, d, *weight, Tensor()));
                  if (context.wants(1)) context.add(1, conv2d_weight_gradient(s, *dy, d));
                });
}

/// dy (B, O, H', W'), x (B, C, H, W) -> dweight (O, C/g, kh, kw)
Tensor conv2d_weight_gradient(const ConvShape& s, const Tensor& dy, const Tensor& x) {
  const char* op = "conv2d_weight_gradient";
  const Tensor dweight = compute(op, dy, x, Tensor(), [&]<class T>(TypeTag<T>, auto& a, auto& b, auto&) {
    const Shape shape{s.filters, s.C / s.groups, s.kernel_height, s.kernel_width};
    return s.B > 0 ? weight_gradient<T>(s, a, b) : zeros(shape, a.dtype(), a.device());
  });
  return record(op, dweight, {dy, x},
                [s, dy = Saved(dy, op), x = Saved(x, op)](const Tensor& d, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, conv2d_of(s, *x, d, Tensor()));
                  if (context.wants(1)) context.add(1, conv2d_input_gradient(s, *dy, d));
                });
}

// ---- Checks ----

void check_conv2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  check_operands("conv2d", x, weight);
  if (bias) check_operands("conv2d", x, *bias);
  VT_CHECK(is_floating(x.dtype()), "conv2d: dtype is {}, expected f32, f64 or bf16", name_of(x.dtype()));
  const bool has_dims = x.dim() == 4 && weight.dim() == 4;
  VT_CHECK(has_dims && x.size(1) * x.size(2) * x.size(3) > 0 && weight.numel() > 0,
           "conv2d: x has shape {} and weight {}, expected (B, C, H, W) and (O, C / groups, kh, kw) with sizes above 0",
           to_string(x.shape()), to_string(weight.shape()));
  VT_CHECK(!bias || bias->shape() == Shape{weight.size(0)},
           "conv2d: bias has shape {}, expected ({}) = first dimension of weight {}", to_string(bias->shape()),
           weight.size(0), to_string(weight.shape()));
}

ConvShape conv_shape(const Tensor& x, const Tensor& weight, std::int64_t stride, std::int64_t padding,
                     std::int64_t groups) {
  const std::int64_t C = x.size(1), H = x.size(2), W = x.size(3), filters = weight.size(0);
  const std::int64_t kernel_height = weight.size(2), kernel_width = weight.size(3);
  VT_CHECK(stride >= 1 && padding >= 0, "conv2d: stride is {} and padding {}, expected at least 1 and 0", stride,
           padding);
  VT_CHECK(groups >= 1 && C % groups == 0 && filters % groups == 0,
           "conv2d: groups is {}, expected a divisor of the {} channels of x and of the {} filters of weight", groups,
           C, filters);
  VT_CHECK(weight.size(1) * groups == C, "conv2d: weight has shape {}, expected (O, {}, kh, kw) for x {} in {} groups",
           to_string(weight.shape()), C / groups, to_string(x.shape()), groups);
  VT_CHECK(H + 2 * padding >= kernel_height && W + 2 * padding >= kernel_width,
           "conv2d: x {} with padding {} is smaller than the kernel ({}, {})", to_string(x.shape()), padding,
           kernel_height, kernel_width);
  return {.B = x.size(0),
          .C = C,
          .H = H,
          .W = W,
          .filters = filters,
          .kernel_height = kernel_height,
          .kernel_width = kernel_width,
          .stride = stride,
          .padding = padding,
          .groups = groups,
          .out_height = (H + 2 * padding - kernel_height) / stride + 1,
          .out_width = (W + 2 * padding - kernel_width) / stride + 1};
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::int64_t stride,
              std::int64_t padding, std::int64_t groups) {
  check_conv2d(x, weight, bias);
  return conv2d_of(conv_shape(x, weight, stride, padding, groups), x, weight, bias.value_or(Tensor()));
}

}  // namespace vitrine
