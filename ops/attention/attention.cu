// Attention: y = softmax(scale q k^T + bias) v. Vaswani et al., "Attention is all you need" (2017), section 3.2.1.
// Backward recomputes the scores from q, k and the logsumexp of each row (Dao et al., "FlashAttention", 2022), so no
// (N, M) matrix outlives the op.
#include <algorithm>
#include <cmath>

#include "ops/attention/cpu.h"
#include "ops/attention/cuda.h"
#include "ops/attention/mma.h"
#include "ops/composed.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

/// The tensors of one call. q (B, H, N, D), k and v (B, H, M, D), bias (G, H, N, M) expanded or undefined; G divides B.
struct Operands {
  Tensor q, k, v, bias;
  double scale;
};

template <class T>
Heads<T> heads_of(const Tensor& x) {
  return {const_cast<std::remove_const_t<T>*>(x.data<std::remove_const_t<T>>()), x.strides()[0], x.strides()[1],
          x.strides()[2]};
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

template <class T>
AttentionInputs<T> inputs_of(const Operands& x) {
  AttentionInputs<T> in{x.q.size(0),
                        x.q.size(1),
                        x.q.size(2),
                        x.k.size(2),
                        x.q.size(3),
                        static_cast<Compute<T>>(x.scale),
                        heads_of<const T>(x.q),
                        heads_of<const T>(x.k),
                        heads_of<const T>(x.v),
                        {}};
  if (x.bias.defined()) in.bias = bias_of<const T>(x.bias, x.bias.strides(), x.bias.size(0));
  return in;
}

/// Elements of a row must be dense for the product, and rows must not overlap; a copy only where they are not.
Tensor dense_rows(const Tensor& x) {
  const bool dense = x.size(-1) <= 1 || x.strides()[3] == 1;
  return dense && x.strides()[2] >= x.size(-1) ? x.detach() : clone(x);
}

Operands prepare(const Operands& x) {
  return {dense_rows(x.q), dense_rows(x.k), dense_rows(x.v), x.bias.detach(), x.scale};
}

/// What logsumexp and the partial sums of the bias's gradient are made of.
DType compute_dtype(const Tensor& q) { return q.dtype() == DType::f64 ? DType::f64 : DType::f32; }

// ---- Which kernel: three for forward, three for backward ----

template <class T>
void forward_as(const AttentionInputs<T>& in, const Heads<T>& y, Compute<T>* logsumexp, Device device) {
#if VT_CUDA
  if (device.is_cuda()) {
    if constexpr (std::is_same_v<T, bfloat16>) {
      if (attention_mma::accepts(in, y)) return attention_mma::forward(in, y, logsumexp);
    }
    return attention_cuda::forward(in, y, logsumexp);
  }
#endif
  (void)device;
  attention_forward_cpu<T>(in, y, logsumexp);
}

template <class T>
void backward_as(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, const AttentionGradients<T>& out,
                 std::int64_t parts, std::int64_t part_size, Device device) {
#if VT_CUDA
  if (device.is_cuda()) {
    Tensor dots = empty({in.B, in.H, in.N}, dtype_of<Compute<T>>(), device);
    Compute<T>* scratch = dots.data<Compute<T>>();
    if constexpr (std::is_same_v<T, bfloat16>) {
      if (attention_mma::accepts(in, saved.y, saved.dy, out.dq, out.dk, out.dv)) {
        return attention_mma::backward(in, saved, out, scratch, parts, part_size);
      }
    }
    return attention_cuda::backward(in, saved, out, scratch, parts, part_size);
  }
#endif
  (void)device;
  attention_backward_cpu<T>(in, saved, out, parts, part_size);
}

/// Writes y, a (B, H, N, D) view of the caller's, and returns the logsumexp (B, H, N).
Tensor forward_into(const Operands& given, Tensor y) {
  const Operands x = prepare(given);
  Tensor logsumexp = empty_for("attention", {x.q.size(0), x.q.size(1), x.q.size(2)}, compute_dtype(x.q), x.q.device());
  if (x.k.size(2) == 0) {  // no keys: every row is fully masked
    fill(y, 0);
    fill(logsumexp, -INFINITY);
  } else if (y.numel() > 0) {
    dispatch_floating(y.dtype(), "attention", [&]<class T>(TypeTag<T>) {
      forward_as(inputs_of<T>(x), heads_of<T>(y), logsumexp.data<Compute<T>>(), y.device());
    });
  }
  return logsumexp;
}

/// Fills gradients.q, .k, .v (views of the caller's, shaped like the operands) and, where defined, gradients.bias,
/// which has shape (parts, G, 1 or H, 1 or N, 1 or M) and is 0.
void backward_into(const Operands& given, const Tensor& y, const Tensor& logsumexp, const Tensor& dy,
                   Operands& gradients) {
  const Operands x = prepare(given);
  if (x.k.size(2) == 0 || x.q.numel() == 0) {
    for (Tensor* gradient : {&gradients.q, &gradients.k, &gradients.v}) fill(*gradient, 0);
    return;
  }
  const Tensor dy_rows = dense_rows(dy);
  dispatch_floating(y.dtype(), "attention", [&]<class T>(TypeTag<T>) {
    AttentionGradients<T> out{heads_of<T>(gradients.q), heads_of<T>(gradients.k), heads_of<T>(gradients.v), {}};
    std::int64_t parts = 1, part_size = 0;
    if (gradients.bias.defined()) {
      parts = gradients.bias.size(0);
      part_size = gradients.bias.strides()[0];
      Strides strides = Dims::filled(4, 0);
      for (int d = 0; d < 4; ++d) strides[d] = gradients.bias.size(d + 1) == 1 ? 0 : gradients.bias.strides()[d + 1];
      out.dbias = bias_of<Compute<T>>(gradients.bias, strides, gradients.bias.size(1));
    }
    const AttentionSaved<T> saved{heads_of<const T>(y), heads_of<const T>(dy_rows), logsumexp.data<Compute<T>>()};
    backward_as(inputs_of<T>(x), saved, out, parts, part_size, y.device());
  });
}

// ---- The bias's gradient: partial sums over shares of the batch ----

/// Zeros (parts, G, 1 or H, 1 or N, 1 or M) for a bias of `bias_shape`. As many parts as samples share a bias, but 16 tasks
/// are enough on the CPU, and 256 blocks for each head on CUDA.
Tensor bias_parts(const Tensor& q, const Shape& bias_shape) {
  Shape shape = bias_shape;
  while (shape.size() < 4) shape.insert(0, 1);
  const std::int64_t groups = std::max<std::int64_t>(1, shape[0]), tasks = q.device().is_cpu() ? 16 : 256;
  const std::int64_t most = std::max<std::int64_t>(1, tasks / groups);
  shape.insert(0, std::clamp<std::int64_t>(q.size(0) / groups, 1, most));
  return zeros(shape, compute_dtype(q), q.device());
}

/// The gradient in the bias's own shape.
Tensor joined(const Tensor& parts, const Shape& bias_shape, DType dtype) {
  return reshape(cast(sum(parts, {0}), dtype), bias_shape);
}

/// Whether bf16 is computed in f32 throughout, for want of instructions.
bool widens(const Tensor& x) { return x.dtype() == DType::bf16 && x.device().is_cpu() && !has_bf16_products(); }

// ---- Checks ----

void check_operands(const char* op, const Operands& x) {
  const bool shapes = x.q.dim() == 4 && x.k.dim() == 4 && x.v.dim() == 4 && x.k.shape() == x.v.shape() &&
                      x.q.size(0) == x.k.size(0) && x.q.size(1) == x.k.size(1) && x.q.size(3) == x.k.size(3);
  VT_CHECK(shapes, "{}: q is {}, k {} and v {}, expected q (B, H, N, D), k and v (B, H, M, D)", op,
           to_string(x.q.shape()), to_string(x.k.shape()), to_string(x.v.shape()));
  VT_CHECK(is_floating(x.q.dtype()) && x.k.dtype() == x.q.dtype() && x.v.dtype() == x.q.dtype() &&
               (!x.bias.defined() || x.bias.dtype() == x.q.dtype()),
           "{}: q is {}, k {}, v {} and bias {}, expected one of f32, f64, bf16", op, name_of(x.q.dtype()),
           name_of(x.k.dtype()), name_of(x.v.dtype()), x.bias.defined() ? name_of(x.bias.dtype()) : "absent");
  const Device device = x.q.device();
  VT_CHECK(x.k.device() == device && x.v.device() == device && (!x.bias.defined() || x.bias.device() == device),
           "{}: q is on {}, k on {}, v on {} and bias {}, expected one device", op, to_string(device),
           to_string(x.k.device()), to_string(x.v.device()),
           x.bias.defined() ? "on " + to_string(x.bias.device()) : "absent");
  VT_CHECK(device.is_cpu() || x.q.size(3) <= largest_head_on_cuda,
           "{}: q is {}, expected heads of at most {} numbers on {}", op, to_string(x.q.shape()), largest_head_on_cuda,
           to_string(device));
}

void check_bias(const char* op, const Tensor& bias, const Shape& scores) {
  bool fits = bias.dim() <= 4;
  for (int d = 1; fits && d <= std::min(bias.dim(), 3); ++d)
    fits = bias.size(-d) == 1 || bias.size(-d) == scores[4 - d];
  if (fits && bias.dim() == 4) fits = bias.size(0) == scores[0] || (bias.size(0) > 0 && scores[0] % bias.size(0) == 0);
  VT_CHECK(fits,
           "{}: bias has shape {}, expected one that broadcasts to (B, H, N, M) = {}, or G of them where G divides B",
           op, to_string(bias.shape()), to_string(scores));
}

/// The bias as (G, H, N, M), or an undefined tensor.
Tensor expanded(const OptionalTensor& bias, const Shape& scores) {
  if (!bias) return Tensor();
  Shape shape = scores;
  shape[0] = bias->dim() == 4 ? bias->size(0) : 1;
  return bias->view_as(shape, broadcast_strides(bias->shape(), bias->strides(), shape), bias->offset());
}

}  // namespace

// ---- The composition: the formula in primitive ops, whose gradient can be differentiated again ----

Tensor attention_composed(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias, double scale) {
  Tensor scores = mul(matmul(q, transpose(k)), scale);
  const std::int64_t B = q.size(0), H = q.size(1), N = q.size(2), M = k.size(2);
  const std::int64_t G = bias && bias->dim() == 4 ? bias->size(0) : 1;
  if (G > 1 && G < B) {
    scores = reshape(add(reshape(scores, {B / G, G, H, N, M}), *bias), {B, H, N, M});
  } else if (bias) {
    scores = add(scores, *bias);
  }
  return matmul(softmax(scores), v);
}

// ---- attention ----

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias,
                 std::optional<double> scale) {
  Operands x{q, k, v, bias.value_or(Tensor()), 0};
  check_operands("attention", x);
  x.scale = scale.value_or(1 / std::sqrt(static_cast<double>(q.size(3))));
  const Shape scores{q.size(0), q.size(1), q.size(2), k.size(2)};
  if (bias) check_bias("attention", *bias, scores);
  if (is_recording_twice()) return attention_composed(q, k, v, bias, x.scale);
  if (widens(q)) {
    const OptionalTensor bias_f32 = bias ? OptionalTensor(cast(*bias, DType::f32)) : std::nullopt;
    const auto f32 = [](const Tensor& t) { return cast(t, DType::f32); };
    return cast(attention(f32(q), f32(k), f32(v), bias_f32, scale), DType::bf16);
  }
  x.bias = expanded(bias, scores);
  Tensor y = empty_for("attention", q.shape(), q.dtype(), q.device());
  const Tensor logsumexp = forward_into(x, y);
  const Tensor bias_or_none = bias.value_or(Tensor());
  const char* op = "attention";
  return record(op, y, {q, k, v, bias_or_none},
                [q = Saved(q, op), k = Saved(k, op), v = Saved(v, op), bias = Saved(x.bias, op), y = Saved(y, op),
                 bias_shape = bias_or_none.shape(), logsumexp, scale = x.scale](const Tensor& dy, Chain& chain) {
                  Operands gradients{empty_like(*q), empty_like(*k), empty_like(*v), Tensor(), scale};
                  const bool wants_bias = bias->defined() && chain.wants(3);
                  if (wants_bias) gradients.bias = bias_parts(*q, bias_shape);
                  backward_into({*q, *k, *v, *bias, scale}, *y, logsumexp, dy, gradients);
                  if (chain.wants(0)) chain.add(0, gradients.q);
                  if (chain.wants(1)) chain.add(1, gradients.k);
                  if (chain.wants(2)) chain.add(2, gradients.v);
                  if (wants_bias) chain.add(3, joined(gradients.bias, bias_shape, dy.dtype()));
                });
}

// ---- self_attention: q, k and v are views of one tensor, and so are their gradients ----

namespace {

/// Part `index` (0 = q, 1 = k, 2 = v) of qkv (B, N, 3 H D) as (B, H, N, D), without a copy.
Tensor part_of(const Tensor& qkv, int index, std::int64_t H) {
  const std::int64_t B = qkv.size(0), N = qkv.size(1), D = qkv.size(2) / (3 * H);
  const std::int64_t element = qkv.strides()[2];
  return qkv.view_as({B, H, N, D}, {qkv.strides()[0], D * element, qkv.strides()[1], element},
                     qkv.offset() + index * H * D * element);
}

Operands split_parts(const Tensor& qkv, const Tensor& bias, std::int64_t H, double scale) {
  return {part_of(qkv, 0, H), part_of(qkv, 1, H), part_of(qkv, 2, H), bias, scale};
}

/// y (B, N, H D) seen as (B, H, N, D).
Tensor heads_view(const Tensor& y, std::int64_t H) {
  const std::int64_t D = y.size(2) / H;
  return y.view_as({y.size(0), H, y.size(1), D}, {y.strides()[0], D * y.strides()[2], y.strides()[1], y.strides()[2]},
                   y.offset());
}

Tensor self_attention_composed(const Tensor& qkv, std::int64_t H, const OptionalTensor& bias, double scale) {
  const std::int64_t B = qkv.size(0), N = qkv.size(1), D = qkv.size(2) / (3 * H);
  const Tensor parts = permute(reshape(qkv, {B, N, 3, H, D}), {2, 0, 3, 1, 4});  // (3, B, H, N, D)
  const Tensor y = attention_composed(select(parts, 0, 0), select(parts, 0, 1), select(parts, 0, 2), bias, scale);
  return reshape(permute(y, {0, 2, 1, 3}), {B, N, H * D});
}

}  // namespace

Tensor self_attention(const Tensor& qkv, int head_count, const OptionalTensor& bias, std::optional<double> scale) {
  const char* op = "self_attention";
  VT_CHECK(head_count >= 1 && qkv.dim() == 3 && qkv.size(2) % (3 * head_count) == 0,
           "self_attention: qkv has shape {} and there are {} heads, expected (B, N, 3 H D)", to_string(qkv.shape()),
           head_count);
  const std::int64_t B = qkv.size(0), N = qkv.size(1), H = head_count, D = qkv.size(2) / (3 * H);
  const double factor = scale.value_or(1 / std::sqrt(static_cast<double>(D)));
  check_operands(op, split_parts(qkv, bias.value_or(Tensor()), H, factor));
  if (bias) check_bias(op, *bias, {B, H, N, N});
  if (is_recording_twice()) return self_attention_composed(qkv, H, bias, factor);
  if (widens(qkv)) {  // through the general op, which computes in f32
    const Tensor parts = permute(reshape(qkv, {B, N, 3, H, D}), {2, 0, 3, 1, 4});
    const Tensor y = attention(select(parts, 0, 0), select(parts, 0, 1), select(parts, 0, 2), bias, factor);
    return reshape(permute(y, {0, 2, 1, 3}), {B, N, H * D});
  }
  const Tensor bias_or_none = bias.value_or(Tensor()), all_biases = expanded(bias, {B, H, N, N});
  Tensor y = empty_for("attention", {B, N, H * D}, qkv.dtype(), qkv.device());
  const Tensor logsumexp = forward_into(split_parts(qkv, all_biases, H, factor), heads_view(y, H));
  return record(op, y, {qkv, bias_or_none},
                [qkv = Saved(qkv, op), bias = Saved(all_biases, op), y = Saved(y, op), logsumexp,
                 bias_shape = bias_or_none.shape(), H, factor](const Tensor& dy, Chain& chain) {
                  Tensor dqkv = empty_like(*qkv);
                  Operands gradients = split_parts(dqkv, Tensor(), H, factor);
                  const bool wants_bias = bias->defined() && chain.wants(1);
                  if (wants_bias) gradients.bias = bias_parts(gradients.q, bias_shape);
                  backward_into(split_parts(*qkv, *bias, H, factor), heads_view(*y, H), logsumexp, heads_view(dy, H),
                                gradients);
                  if (chain.wants(0)) chain.add(0, dqkv);
                  if (wants_bias) chain.add(1, joined(gradients.bias, bias_shape, dy.dtype()));
                });
}

}  // namespace vitrine
