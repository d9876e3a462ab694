// Attention (Vaswani et al., "Attention is all you need", 2017, section 3.2.1), for every head of
// every sample:
//
//   s = scale q k^T + bias    (N, M) scores, from q (N, D), k (M, D) and bias (N, M)
//   p = softmax(s)            (N, M), over the keys
//   y = p v                   (N, D), with v (M, D)
//
// Where to read on: ops/attention/reference.h is forward and backward as plain loops, to be stepped
// through in a debugger. ops/attention/cpu.h has the same with blocks of rows and fast products.
// ops/attention/cuda.h has it in tiles with the online softmax, for every dtype;
// ops/attention/mma.h runs it on tensor cores in bf16, ops/attention/mma_window.h for few tokens.
// benchmarks/ladders/attention.cu grows the CUDA kernel from naive to fast, one idea at a time.
#include <algorithm>
#include <cmath>

#include "ops/attention/bias.h"
#include "ops/attention/cpu.h"
#include "ops/attention/cuda.h"
#include "ops/attention/mma.h"
#include "ops/attention/mma_window.h"
#include "ops/composed.h"
#include "ops/ops.h"

namespace vitrine {

// ---- The definition, in primitive ops, whose gradient can be differentiated again ----

Tensor attention_composed(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias, double scale) {
  Tensor scores = mul(matmul(q, transpose(k)), scale);  // (B, H, N, M)
  const std::int64_t B = q.size(0), H = q.size(1), N = q.size(2), M = k.size(2);
  const std::int64_t G = bias && bias->dim() == 4 ? bias->size(0) : 1;
  if (G > 1 && G < B) {  // sample b takes bias b mod G
    scores = reshape(add(reshape(scores, {B / G, G, H, N, M}), *bias), {B, H, N, M});
  } else if (bias) {
    scores = add(scores, *bias);
  }
  return matmul(softmax(scores), v);  // (B, H, N, D)
}

// ---- The gradient, given dy (N, D) ----
//
//   dv = p^T dy                  y = p v is linear in v ...
//   dp = dy v^T                  ... and in p
//   ds = p (dp - rowsum(dp p))   p = softmax(s): p_j changes with s_i by p_j ([i = j] - p_i)
//   dq = scale ds k              s is linear in q ...
//   dk = scale ds^T q            ... in k ...
//   dbias = ds                   ... and in bias; summed over its broadcast dimensions
//
// Why no (N, M) matrix is kept: the sum can be had without dp and p,
//
//   rowsum(dp p) = rowsum((dy v^T) p) = rowsum(dy (p v)) = rowsum(dy y)   (delta in FlashAttention-2)
//
// so ds can be computed in blocks of rows or tiles. Each block also computes its part of
// p = e^(s - logsumexp(s)) again, from q and k. So forward saves y and the logsumexp of each row of
// s, (B, H, N), beside its inputs (Dao et al., "FlashAttention", 2022). A fully masked row has
// logsumexp = -infinity, and its p, y and ds are 0.

// ---- The fast code: which kernel, for which operands ----

namespace {

/// The tensors of one call. q (B, H, N, D), k and v (B, H, M, D), bias (G, H, N, M) broadcast or
/// undefined; G divides B.
struct Operands {
  Tensor q, k, v, bias;
  double scale = 1;

  Shape score_shape() const { return {q.size(0), q.size(1), q.size(2), k.size(2)}; }
  /// Of logsumexp and of the partial sums of dbias.
  DType compute_dtype() const { return q.dtype() == DType::f64 ? DType::f64 : DType::f32; }
};

template <class T>
Heads<T> heads_of(const Tensor& x) {
  return {const_cast<std::remove_const_t<T>*>(x.data<std::remove_const_t<T>>()), x.strides()[0], x.strides()[1],
          x.strides()[2]};
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

/// x where its rows are dense and do not overlap, as the products need them, else a copy.
Tensor dense_rows(const Tensor& x) {
  const bool dense = x.size(-1) <= 1 || x.strides()[3] == 1;
  return dense && x.strides()[2] >= x.size(-1) ? x.detach() : clone(x);
}

Operands prepare(const Operands& x) {
  return {dense_rows(x.q), dense_rows(x.k), dense_rows(x.v), x.bias.detach(), x.scale};
}

template <class T>
void forward_as(const AttentionInputs<T>& in, const Heads<T>& y, Compute<T>* logsumexp, Device device) {
#if VT_CUDA
  if (device.is_cuda()) {
    if constexpr (std::is_same_v<T, bfloat16>) {
      if (attention_mma::accepts(in, y)) {
        return attention_window::accepts(in) ? attention_window::forward(in, y, logsumexp)
                                             : attention_mma::forward(in, y, logsumexp);
      }
    }
    return attention_cuda::forward(in, y, logsumexp);
  }
#endif
  (void)device;
  attention_cpu::forward(in, y, logsumexp);
}

template <class T>
void backward_as(const AttentionInputs<T>& in, const AttentionSaved<T>& saved, const AttentionGradients<T>& out,
                 Device device) {
#if VT_CUDA
  if (device.is_cuda()) {
    Tensor delta = empty({in.B, in.H, in.N}, dtype_of<Compute<T>>(), device);
    Compute<T>* scratch = delta.data<Compute<T>>();
    if constexpr (std::is_same_v<T, bfloat16>) {
      if (attention_mma::accepts(in, saved.y, saved.dy, out.dq, out.dk, out.dv)) {
        return attention_window::accepts(in, out.dbias) ? attention_window::backward(in, saved, out)
                                                        : attention_mma::backward(in, saved, out, scratch);
      }
    }
    return attention_cuda::backward(in, saved, out, scratch);
  }
#endif
  (void)device;
  attention_cpu::backward(in, saved, out);
}

/// Writes y, the caller's view (B, H, N, D), and returns the logsumexp (B, H, N).
Tensor forward_into(const Operands& given, Tensor y) {
  const Operands x = prepare(given);
  Tensor logsumexp = empty_for("attention", {x.q.size(0), x.q.size(1), x.q.size(2)}, x.compute_dtype(), x.q.device());
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

/// Fills gradients.q, .k and .v, the caller's views, shaped like the operands. Where gradients.bias
/// is defined, adds dbias to it as partial sums (see bias_partials).
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
    if (gradients.bias.defined()) out.dbias = partials_of<Compute<T>>(gradients.bias);
    const AttentionSaved<T> saved{heads_of<const T>(y), heads_of<const T>(dy_rows), logsumexp.data<Compute<T>>()};
    backward_as(inputs_of<T>(x), saved, out, y.device());
  });
}

/// What backward needs of one call of forward. The operands are views of the op's inputs, y one of
/// its output.
struct SavedCall {
  Saved q, k, v, bias, y;
  Tensor logsumexp;  // (B, H, N)
  Shape bias_shape;  // as given
  double scale;

  /// Fills gradients.q, .k and .v. Returns dbias where there is a bias and `wants_bias`, else an
  /// undefined tensor.
  Tensor backward(const Tensor& dy, Operands gradients, bool wants_bias) const {
    const Operands x{*q, *k, *v, *bias, scale};
    if (!x.bias.defined() || !wants_bias) {
      backward_into(x, *y, logsumexp, dy, gradients);
      return Tensor();
    }
    gradients.bias = bias_partials(bias_shape, x.q.size(0), x.compute_dtype(), x.q.device());
    backward_into(x, *y, logsumexp, dy, gradients);
    return reduce_partials(gradients.bias, bias_shape, dy.dtype());
  }
};

SavedCall save_call(const char* op, const Operands& x, const OptionalTensor& bias, const Tensor& y,
                    const Tensor& logsumexp) {
  return {Saved(x.q, op),
          Saved(x.k, op),
          Saved(x.v, op),
          Saved(x.bias, op),
          Saved(y, op),
          logsumexp,
          bias.value_or(Tensor()).shape(),
          x.scale};
}

// ---- What both public functions do first ----

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

/// The operands of a call of `op`, checked. The scale defaults to 1/sqrt(D).
Operands checked_operands(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias,
                          std::optional<double> scale) {
  Operands x{q, k, v, bias.value_or(Tensor())};
  check_operands(op, x);
  if (bias) check_bias(op, *bias, x.score_shape());
  x.bias = broadcast_bias(bias, x.score_shape());
  x.scale = scale.value_or(1 / std::sqrt(static_cast<double>(q.size(3))));
  return x;
}

/// Whether bf16 has to be computed in f32, because the processor has no instructions for products
/// of bf16.
bool needs_f32_fallback(const Tensor& x) {
  return x.dtype() == DType::bf16 && x.device().is_cpu() && !has_bf16_products();
}

Tensor to_f32(const Tensor& x) { return cast(x, DType::f32); }
OptionalTensor to_f32(const OptionalTensor& x) { return x ? OptionalTensor(to_f32(*x)) : std::nullopt; }

}  // namespace

// ---- attention ----

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias,
                 std::optional<double> scale) {
  const char* op = "attention";
  const Operands x = checked_operands(op, q, k, v, bias, scale);
  if (is_recording_twice()) return attention_composed(q, k, v, bias, x.scale);
  if (needs_f32_fallback(q)) {
    return cast(attention(to_f32(q), to_f32(k), to_f32(v), to_f32(bias), scale), DType::bf16);
  }
  const Tensor y = empty_for(op, q.shape(), q.dtype(), q.device());
  const SavedCall saved = save_call(op, x, bias, y, forward_into(x, y));
  return record(op, y, {q, k, v, bias.value_or(Tensor())}, [saved](const Tensor& dy, BackwardContext& context) {
    const Operands gradients{empty_like(*saved.q), empty_like(*saved.k), empty_like(*saved.v), Tensor()};
    const Tensor dbias = saved.backward(dy, gradients, context.wants(3));
    if (context.wants(0)) context.add(0, gradients.q);
    if (context.wants(1)) context.add(1, gradients.k);
    if (context.wants(2)) context.add(2, gradients.v);
    if (dbias.defined()) context.add(3, dbias);
  });
}

// ---- self_attention: q, k and v are views of one tensor, and so are their gradients ----

namespace {

/// q, k or v (`index` 0, 1 or 2) of qkv (B, N, 3 H D) as (B, H, N, D), without a copy.
Tensor part_of(const Tensor& qkv, int index, std::int64_t H) {
  const std::int64_t B = qkv.size(0), N = qkv.size(1), D = qkv.size(2) / (3 * H);
  const std::int64_t element = qkv.strides()[2];
  return qkv.view_as({B, H, N, D}, {qkv.strides()[0], D * element, qkv.strides()[1], element},
                     qkv.offset() + index * H * D * element);
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
  const std::int64_t H = head_count;
  const Operands x = checked_operands(op, part_of(qkv, 0, H), part_of(qkv, 1, H), part_of(qkv, 2, H), bias, scale);
  if (is_recording_twice()) return self_attention_composed(qkv, H, bias, x.scale);
  if (needs_f32_fallback(qkv)) {
    return cast(self_attention(to_f32(qkv), head_count, to_f32(bias), scale), DType::bf16);
  }
  const Tensor y = empty_for("attention", {qkv.size(0), qkv.size(1), qkv.size(2) / 3}, qkv.dtype(), qkv.device());
  const Tensor heads = heads_view(y, H);
  const SavedCall saved = save_call(op, x, bias, heads, forward_into(x, heads));
  return record(op, y, {qkv, bias.value_or(Tensor())},
                [saved, shape = qkv.shape(), H](const Tensor& dy, BackwardContext& context) {
                  const Tensor dqkv = empty(shape, dy.dtype(), dy.device());
                  const Operands gradients{part_of(dqkv, 0, H), part_of(dqkv, 1, H), part_of(dqkv, 2, H), Tensor()};
                  const Tensor dbias = saved.backward(heads_view(dy, H), gradients, context.wants(1));
                  if (context.wants(0)) context.add(0, dqkv);
                  if (dbias.defined()) context.add(1, dbias);
                });
}

}  // namespace vitrine
