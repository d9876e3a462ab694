// Every public op: its formula and the gradient of each of its floating operands, then the
// declaration. The rest of an op (CPU, CUDA, backward) is in ops/<family>.cu; its row is in
// op_table/cases/<family>.cpp. A test reads this file and fails where an op lacks its `y =`, or an
// operand x of it its `dx =` (or the words "no gradient").
//
// All ops are functions of tensors and record themselves on the tape that is alive on this thread.
// Floating ops take f32, f64 and bf16 (computed in float, stored in bf16), need one dtype and one
// device for all operands, and accept any strides. `y` is the output, `dy` its gradient. Dims count
// from the end when negative. Every error names the op, shape or dtype.
#pragma once

#include <optional>
#include <vector>

#include "autograd/tape.h"
#include "tensor/philox.h"
#include "tensor/tensor.h"

namespace vitrine {

using OptionalTensor = std::optional<Tensor>;

// ---- Arithmetic with broadcasting (ops/binary.cu); add, sub, mul also for i32 and i64 ----
// bf16: computed in f32, each result rounded once.

Tensor add(const Tensor& a, const Tensor& b);  // y = a + b            da = dy, db = dy, summed over broadcast dims
Tensor sub(const Tensor& a, const Tensor& b);  // y = a - b            da = dy, db = -dy
Tensor mul(const Tensor& a, const Tensor& b);  // y = a b              da = dy b, db = dy a
Tensor div(const Tensor& a, const Tensor& b);  // y = a / b            da = dy / b, db = -dy y / b
Tensor pow(const Tensor& a, const Tensor& b);  // y = a^b, a >= 0      da = dy b a^(b-1), db = dy y log a (0 at a = 0)
/// y = max(a, b); da = dy where a > b, db = dy where b > a, and half of dy to each at a tie.
Tensor maximum(const Tensor& a, const Tensor& b);
/// y = min(a, b); da = dy where a < b, db = dy where b < a, and half of dy to each at a tie.
Tensor minimum(const Tensor& a, const Tensor& b);
/// y = condition ? a : b; da = condition ? dy : 0, db = condition ? 0 : dy. The operand that is not
/// taken gets exactly 0, even where its element is NaN. condition is bool.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

Tensor add(const Tensor& x, double c);  // y = x + c     dx = dy
Tensor mul(const Tensor& x, double c);  // y = c x       dx = c dy
Tensor pow(const Tensor& x, double c);  // y = x^c       dx = c dy x^(c-1)

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator+(const Tensor& x, double c) { return add(x, c); }
inline Tensor operator+(double c, const Tensor& x) { return add(x, c); }
inline Tensor operator-(const Tensor& x, double c) { return add(x, -c); }
inline Tensor operator-(double c, const Tensor& x) { return add(mul(x, -1), c); }
inline Tensor operator*(const Tensor& x, double c) { return mul(x, c); }
inline Tensor operator*(double c, const Tensor& x) { return mul(x, c); }
inline Tensor operator/(const Tensor& x, double c) { return mul(x, 1 / c); }
inline Tensor operator-(const Tensor& x) { return mul(x, -1); }

// Comparisons give bool; they take every dtype. Logic is for bool.
Tensor equal(const Tensor& a, const Tensor& b);          // y = (a == b)    no gradient
Tensor not_equal(const Tensor& a, const Tensor& b);      // y = (a != b)    no gradient
Tensor less(const Tensor& a, const Tensor& b);           // y = (a < b)     no gradient
Tensor less_equal(const Tensor& a, const Tensor& b);     // y = (a <= b)    no gradient
Tensor greater(const Tensor& a, const Tensor& b);        // y = (a > b)     no gradient
Tensor greater_equal(const Tensor& a, const Tensor& b);  // y = (a >= b)    no gradient
Tensor logical_and(const Tensor& a, const Tensor& b);    // y = a and b     no gradient
Tensor logical_or(const Tensor& a, const Tensor& b);     // y = a or b      no gradient
Tensor logical_not(const Tensor& x);                     // y = not x       no gradient

// ---- Functions of one variable (ops/unary.cu) ----
// bf16: computed in f32, each result rounded once; so are all ops below unless they say more.

Tensor neg(const Tensor& x);         // y = -x               dx = -dy
Tensor abs(const Tensor& x);         // y = |x|              dx = dy sign(x), 0 at 0
Tensor sign(const Tensor& x);        // y = -1, 0 or 1       dx = 0
Tensor exp(const Tensor& x);         // y = e^x              dx = dy y
Tensor expm1(const Tensor& x);       // y = e^x - 1          dx = dy (y + 1)
Tensor log(const Tensor& x);         // y = ln x             dx = dy / x
Tensor log1p(const Tensor& x);       // y = ln(1 + x)        dx = dy / (1 + x)
Tensor sqrt(const Tensor& x);        // y = sqrt x           dx = dy / (2 y)
Tensor rsqrt(const Tensor& x);       // y = 1 / sqrt x       dx = -dy y^3 / 2
Tensor reciprocal(const Tensor& x);  // y = 1 / x            dx = -dy y^2
Tensor square(const Tensor& x);      // y = x^2              dx = 2 dy x
Tensor sin(const Tensor& x);         // y = sin x            dx = dy cos x
Tensor cos(const Tensor& x);         // y = cos x            dx = -dy sin x
Tensor tanh(const Tensor& x);        // y = tanh x           dx = dy (1 - y^2)
Tensor sigmoid(const Tensor& x);     // y = 1 / (1 + e^-x)   dx = dy y (1 - y)
Tensor silu(const Tensor& x);        // y = x sigmoid(x)     dx = dy s (1 + x (1 - s)), s = sigmoid(x)
Tensor softplus(const Tensor& x);    // y = ln(1 + e^x)      dx = dy sigmoid(x)
Tensor relu(const Tensor& x);        // y = max(x, 0)        dx = dy (x > 0)
Tensor erf(const Tensor& x);         // y = erf x            dx = dy 2/sqrt(pi) e^(-x^2)
Tensor clamp(const Tensor& x, double low, double high);  // y = min(max(x, low), high)   dx = dy (low <= x <= high)
Tensor floor(const Tensor& x);                           // y = the largest integer <= x           dx = 0
Tensor ceil(const Tensor& x);                            // y = the smallest integer >= x          dx = 0
Tensor round(const Tensor& x);                           // y = the nearest integer, half to even  dx = 0

// ---- GELU (ops/gelu.cu). Hendrycks and Gimpel 2016 ----

enum class GeluForm { erf, tanh };
/// erf form: y = x P(X <= x) = x erfc(-x / sqrt 2) / 2, exact in the negative tail.
///   dx = dy (P(X <= x) + x p(x)) with the normal density p(x) = e^(-x^2/2) / sqrt(2 pi)
/// tanh form: y = x/2 (1 + tanh(w/2)) = x s, w = 2 sqrt(2/pi) (x + 0.044715 x^3), s = sigmoid(w).
///   dx = dy (s + x s (1 - s) dw/dx) with dw/dx = 2 sqrt(2/pi) (1 + 0.134145 x^2)
Tensor gelu(const Tensor& x, GeluForm form = GeluForm::erf);
/// y = gelu(x + bias) in one pass (ops/bias_gelu.cu), erf form; x (..., D), bias (D).
/// dx = dy (P(X <= z) + z p(z)) with z = x + bias, dbias = dx summed over the rows.
Tensor bias_gelu(const Tensor& x, const Tensor& bias);

// ---- Reductions (ops/reduction.cu) over `dims` (empty = all); keepdim leaves size-1 dims ----
// bf16: summed in f32 to the end, the result rounded once.

/// y = sum of x. dx = dy, expanded.
Tensor sum(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// y = (sum of x) / count. dx = dy / count, expanded.
Tensor mean(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// y = the largest x; NaN wins. dx = dy / m at each of the m maxima, else 0.
Tensor amax(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// y = the smallest x; NaN wins. dx = dy / m at each of the m minima, else 0.
Tensor amin(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// y = sum of (x - mean)^2 / (count - correction), in two passes. dx = 2 dy (x - mean) / (count -
/// correction).
Tensor var(const Tensor& x, const Dims& dims = {}, bool keepdim = false, int correction = 1);
/// y = ln(sum e^x), stable; a row of -inf gives -inf with gradient 0. dx = dy softmax(x).
Tensor logsumexp(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// y = index (i64) of the first maximum along `dim`; NaN counts as the maximum. No gradient.
Tensor argmax(const Tensor& x, int dim = -1, bool keepdim = false);
/// y = x summed down to `shape`: the reverse of broadcasting, and the backward of every op that
/// broadcasts. dx = dy, expanded.
Tensor sum_to(const Tensor& x, const Shape& shape);

// ---- Softmax family (ops/softmax.cu), along any dim ----
// bf16: maximum, exponentials and sum in f32.

/// y = e^(x - max) / sum; a row of -inf gives 0 with gradient 0. dx = y (dy - sum(dy y)).
Tensor softmax(const Tensor& x, int dim = -1);
/// y = x - logsumexp(x). dx = dy - softmax(x) sum(dy).
Tensor log_softmax(const Tensor& x, int dim = -1);

// ---- Normalisation (ops/norm/layer_norm.cu). Ba, Kiros, Hinton 2016 ----
// bf16: x, residual and y alone; statistics, factors and the sums of dweight and dbias are f32.

/// y = n weight + bias with n = (x - mean) rstd, rstd = 1 / sqrt(var + epsilon), over the last dim;
/// x (..., D), weight and bias (D), which may be f32 where x is bf16. With g = dy weight:
/// dx = rstd (g - mean(g) - n mean(g n)), dweight = sum(dy n), dbias = sum(dy).
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon = 1e-5);
struct SumAndNorm {
  Tensor sum, norm;
};
/// A residual connection and the normalisation after it in one pass:
/// sum = x + residual, norm = layer_norm(sum).
/// dx = dresidual = dsum + the dx of layer_norm for dnorm,
/// dweight = sum(dnorm n), dbias = sum(dnorm).
SumAndNorm add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
                          double epsilon = 1e-5);

// ---- Normalisation of images (B, C, ...) (ops/norm/norm.cu) ----
// weight (C) and bias (C) may be f32 where x is bf16.
// bf16: x and y alone; statistics, running ones too, factors and sums are f32.

/// What batch_norm remembers of each channel, (C): f64 where x is f64, else f32. Training changes
/// the elements in place.
struct RunningStatistics {
  Tensor mean, variance;
};

/// y = n weight + bias with n = (x - mean) rstd, rstd = 1 / sqrt(var + epsilon), per channel. Ioffe
/// and Szegedy 2015. In training mean and (biased) var are those of x, and running = (1 - momentum)
/// running + momentum (mean, unbiased var); else they are the running ones. With g = dy weight:
/// dx = rstd (g - mean(g) - n mean(g n)) in training, else rstd g;
/// dweight = sum(dy n), dbias = sum(dy).
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const RunningStatistics& running,
                  bool training, double momentum = 0.1, double epsilon = 1e-5);
/// y = n weight + bias with mean and (biased) var of each group of C/groups neighbouring channels
/// of each image. Wu and He 2018. n, rstd and g as above, means over the group:
/// dx = rstd (g - mean(g) - n mean(g n)), dweight = sum(dy n), dbias = sum(dy).
Tensor group_norm(const Tensor& x, std::int64_t groups, const Tensor& weight, const Tensor& bias,
                  double epsilon = 1e-5);
/// y = (weight - mean) rstd with mean and (biased) var of each filter, weight (O, ...). Qiao et al.
/// 2019; the form of timm's StdConv2d. dweight = rstd (dy - mean(dy) - y mean(dy y)).
Tensor standardize_weight(const Tensor& weight, double epsilon = 1e-6);

// ---- Products (ops/product/matmul.cu, ops/product/linear.cu) ----
// bf16: products of bf16 are exact in f32, are summed there, and the sum is rounded once, bias
// included.

/// y = a b over the last two dims, (..., M, K) (..., K, N) -> (..., M, N); batch dims broadcast.
/// Transposed operands are read in place, without a copy.
/// da = dy b^T, db = a^T dy, summed over broadcast dims.
Tensor matmul(const Tensor& a, const Tensor& b);
/// y = x weight^T + bias; x (..., in), weight (out, in), bias (out).
/// dx = dy weight, dweight = dy^T x, dbias = sum(dy).
Tensor linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias = std::nullopt);

// ---- Convolution (ops/conv/conv.cu) of images (B, C, H, W) ----
// bf16: as products.

/// y[b, o, p, q] = bias[o] + sum over c, i, j of
///                 weight[o, c, i, j] x[b, c0 + c, p stride + i - padding, q stride + j - padding]
/// with zeros beyond the edge; weight (O, C/groups, kh, kw), bias (O), c0 = first channel of o's
/// group; y (B, O, H', W') with H' = floor((H + 2 padding - kh) / stride) + 1.
/// Each product weight x passes dy on to both factors:
/// dx = sum of dy weight over the products of that element of x,
/// dweight = sum of dy x over the products of that element of weight,
/// dbias = sum of dy over b, p, q.
Tensor conv2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias = std::nullopt, std::int64_t stride = 1,
              std::int64_t padding = 0, std::int64_t groups = 1);

// ---- Pooling (ops/conv/pool.cu) of images (B, C, H, W) by square windows ----
// y (B, C, H', W') with H' = floor((H + 2 padding - kernel) / stride) + 1.

/// y = the largest element of each window; padding is never taken, NaN counts as the largest.
/// dx = sum of dy over the windows whose maximum x is: the first in row-major order among equals.
Tensor max_pool2d(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t padding = 0);
/// y = sum of each window / kernel^2; padding counts as zeros. (The mean of whole images is
/// mean(x, {2, 3}).) dx = sum of dy / kernel^2 over the windows that x lies in.
Tensor avg_pool2d(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t padding = 0);

// ---- Resizing (ops/conv/interpolate.cu) ----

enum class InterpolationMode { bilinear, bicubic };
/// y = A x B^T for each image: x (B, C, H, W) resized to (B, C, height, width), where row i of A
/// (height, H) and of B (width, W) holds the filter's weights around the centre of output pixel i.
/// Pixel i has its centre at i + 1/2 (PyTorch's align_corners = false). With antialias, the filter
/// grows with the step between samples when the image shrinks; the cubic's a is then -0.5, else
/// -0.75. dx = A^T dy B.
Tensor interpolate(const Tensor& x, std::int64_t height, std::int64_t width, InterpolationMode mode,
                   bool antialias = false);

// ---- Attention (ops/attention/attention.cu). Vaswani et al. 2017, section 3.2.1 ----
// bf16: scores, softmax, logsumexp and their gradients in f32. Where the hardware multiplies bf16,
// probabilities and score gradients are rounded to bf16 to be multiplied once more; sums are f32.

/// s = scale q k^T + bias (B, H, N, M), p = softmax(s), y = p v (B, H, N, D); q (B, H, N, D), k and
/// v (B, H, M, D), scale 1/sqrt(D) by default. bias broadcasts to (B, H, N, M), or is (G, ...) with
/// a G that divides B: then sample b takes bias b mod G.
/// dv = p^T dy, dp = dy v^T, ds = p (dp - rowsum(dy y)), dq = scale ds k, dk = scale ds^T q,
/// dbias = sum of ds over the broadcast dims. A row that is fully masked by -inf gives 0 with
/// gradient 0. No (N, M) matrix is kept: backward computes p again from q, k and the logsumexp of
/// each row of s.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias = std::nullopt,
                 std::optional<double> scale = std::nullopt);
/// The same on the output of a fused query-key-value layer: qkv (B, N, 3 H D), read as [q | k | v],
/// then head, then dim; y (B, N, H D). dqkv = [dq | dk | dv] of attention. q, k, v and their
/// gradients are views of qkv and dqkv, not copies.
Tensor self_attention(const Tensor& qkv, int head_count, const OptionalTensor& bias = std::nullopt,
                      std::optional<double> scale = std::nullopt);

// ---- Losses (ops/cross_entropy.cu): means over the batch, 0-d results ----
// bf16: computed in f32; training makes logits f32 before it calls them.

/// logits (B, K), labels (B) i32 or i64 in [0, K), checked on the host. Smoothing e spreads e/K to
/// all classes: y = mean(-(1 - e) log p[label] - e/K sum log p) with p = softmax(logits).
/// dlogits = dy/B (p - t) with t[i] = (1 - e) [i = label] + e/K.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing = 0);
/// Soft targets (B, K), which may need a gradient too: y = mean over B of -sum(targets log p)
/// with p = softmax(logits). dlogits = dy/B (p sum(targets) - targets), dtargets = -dy/B log p.
Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets);
/// y = mean over all n elements of max(x, 0) - x t + ln(1 + e^-|x|); logits x and targets t of
/// one shape. dlogits = dy/n (sigmoid(x) - t), dtargets = -dy/n x.
Tensor binary_cross_entropy(const Tensor& logits, const Tensor& targets);

// ---- Noise (ops/dropout.cu): masks are recomputed from `random`, never stored ----

/// y = x m / (1 - p) with m = 0 with probability p, else 1, per element; 0 <= p < 1.
/// dx = dy m / (1 - p).
Tensor dropout(const Tensor& x, double probability, Random random);
/// y = x m / (1 - p) with one m per sample (dim 0). dx = dy m / (1 - p).
/// Huang et al. 2016, "Deep networks with stochastic depth".
Tensor drop_path(const Tensor& x, double probability, Random random);

// ---- Shape (ops/shape.cu): views, no copy unless said; gradients undo the view ----

/// y = x in another shape; one size may be -1; copies only if the strides force it.
/// dx = reshape(dy, shape of x).
Tensor reshape(const Tensor& x, const Shape& shape);
/// y = x with dims first..last made one. dx = reshape(dy, shape of x).
Tensor flatten(const Tensor& x, int first = 0, int last = -1);
/// y = x whose dim order[d] is dim d of y. dx = permute(dy, inverse of order).
Tensor permute(const Tensor& x, const Dims& order);
/// y = x with two dims exchanged. dx = transpose(dy, dim0, dim1).
Tensor transpose(const Tensor& x, int dim0 = -2, int dim1 = -1);
/// y = x broadcast to shape. dx = sum_to(dy, shape of x).
Tensor expand(const Tensor& x, const Shape& shape);
Tensor unsqueeze(const Tensor& x, int dim);  // y = x with a dim of size 1 more      dx = squeeze(dy, dim)
Tensor squeeze(const Tensor& x, int dim);    // y = x without that dim, of size 1    dx = unsqueeze(dy, dim)
/// y = x[start : stop : step] along `dim`; negative start and stop count from the end; step >= 1.
/// dx = dy at the elements that were taken, else 0.
Tensor slice(const Tensor& x, int dim, std::int64_t start, std::int64_t stop, std::int64_t step = 1);
/// y = x[index] along `dim`, which disappears. dx = dy at that index, else 0.
Tensor select(const Tensor& x, int dim, std::int64_t index);
/// y = pieces of `size` along `dim`, the last may be smaller. dx = concat(dy, dim).
std::vector<Tensor> split(const Tensor& x, std::int64_t size, int dim);
Tensor contiguous(const Tensor& x);         // y = x, a row-major copy where needed  dx = dy
Tensor cast(const Tensor& x, DType dtype);  // y = x in dtype, a copy  dx = dy cast back, where both are floating
Tensor to(const Tensor& x, Device device);  // y = x on device, a copy where needed  dx = dy moved back

// ---- Joining and moving (ops/join.cu): these copy ----

/// y = the parts beside each other along `dim`. dparts[i] = the slice of dy that parts[i] fills.
Tensor concat(const std::vector<Tensor>& parts, int dim);
/// y = the parts beside each other along a new dim. dparts[i] = select(dy, dim, i).
Tensor stack(const std::vector<Tensor>& parts, int dim = 0);
/// y[i] = x[n - 1 - i] along each of dims. dx = flip(dy, dims).
Tensor flip(const Tensor& x, const Dims& dims);
/// y[(i + shift) mod n] = x[i] along each of dims. dx = roll(dy, -shifts, dims).
Tensor roll(const Tensor& x, const Dims& shifts, const Dims& dims);
/// y = x with `before` and `after` elements of `value` added to each dim (one entry per dim of x).
/// dx = the part of dy where x lies.
Tensor pad(const Tensor& x, const Dims& before, const Dims& after, double value = 0);

// ---- Windows (ops/window.cu). Liu et al. 2021, "Swin transformer", section 3.2 ----

/// y = x (B, H, W, C) cut into (B H/w W/w, w w, C): squares of `window` pixels, image by image and
/// row by row. With a shift, 0 to min(H, W), of roll(x, {-shift, -shift}, {1, 2}), without a copy
/// for that. dx = window_reverse(dy).
Tensor window_partition(const Tensor& x, std::int64_t window, std::int64_t shift = 0);
/// y = the images (B, H, W, C) of windows (B H/w W/w, w w, C), rolled back by shift: the inverse.
/// dwindows = window_partition(dy).
Tensor window_reverse(const Tensor& windows, std::int64_t window, std::int64_t H, std::int64_t W,
                      std::int64_t shift = 0);

// ---- Indexing (ops/index.cu): indices are i32 or i64, range-checked ----

/// y[..., i, ...] = x[..., index[..., i, ...], ...] along dim; index has x's rank and fits in its
/// other dims. dx = scatter_add of dy: dx[..., index[..., i, ...], ...] += dy[..., i, ...].
Tensor gather(const Tensor& x, int dim, const Tensor& index);
/// y[..., i, ...] = x[..., index[i], ...] along dim; index (n), repeats allowed. dx = scatter_add
/// of dy.
Tensor index_select(const Tensor& x, int dim, const Tensor& index);
/// y[..., d] = weight[index[...], d]; weight (V, D), index (...) -> (..., D). dweight = scatter_add
/// of dy.
Tensor embedding(const Tensor& weight, const Tensor& index);
/// y[..., c] = 1 where c = index[...], else 0; (...) -> (..., classes). No gradient.
Tensor one_hot(const Tensor& index, std::int64_t classes, DType dtype = DType::f32);

}  // namespace vitrine
