// The layers' constructors and forward passes.
#include "nn/layers.h"

#include <cmath>

namespace vitrine {
namespace {

/// True if noise of this rate is to be drawn; checks that there is something to draw it from.
bool is_noisy(double rate, const Pass& pass, const char* layer) {
  if (!pass.training || rate == 0) return false;
  VT_CHECK(rate > 0 && rate < 1, "{}: rate is {}, expected 0 <= rate < 1", layer, rate);
  VT_CHECK(pass.generator, "{}: training with rate {} needs a generator in the Pass, which has none", layer, rate);
  return true;
}

/// A rate, checked where a layer is made.
double checked_rate(double rate, const char* layer) {
  VT_CHECK(rate >= 0 && rate < 1, "{}: rate is {}, expected 0 <= rate < 1", layer, rate);
  return rate;
}

/// cast(parameter, bf16), from the optimiser's copy where there is one.
Tensor round_to_bf16(const Parameter& parameter) {
  const Tensor copy = parameter.bf16_copy();  // autograd/parameter.h tells its story
  if (!copy.defined() || is_recording_twice()) return cast(parameter, DType::bf16);
  return record("cast", copy, {parameter},
                [](const Tensor& dy, BackwardContext& context) { context.add_in_compute_dtype(0, dy); });
}

}  // namespace

Tensor for_input(const Parameter& parameter, const Tensor& x) {
  const bool mixed = x.dtype() == DType::bf16 && parameter.value().dtype() == DType::f32;
  return mixed ? round_to_bf16(parameter) : Tensor(parameter);
}

OptionalTensor for_input(const std::optional<Parameter>& parameter, const Tensor& x) {
  return parameter ? OptionalTensor(for_input(*parameter, x)) : std::nullopt;
}

Linear Linear::make(std::int64_t in, std::int64_t out, Initializer& init, bool with_bias) {
  VT_CHECK(in > 0 && out > 0, "Linear: sizes are {} -> {}, expected sizes above 0", in, out);
  Linear layer{.weight = init.linear_weight(out, in), .bias = std::nullopt};
  if (with_bias) layer.bias = init.linear_bias(out, in);
  return layer;
}

Tensor Linear::operator()(const Tensor& x) const { return linear(x, for_input(weight, x), for_input(bias, x)); }

LayerNorm LayerNorm::make(std::int64_t dim, Initializer& init, double epsilon) {
  return {.weight = init.constant({dim}, 1), .bias = init.constant({dim}, 0), .epsilon = epsilon};
}

Tensor LayerNorm::operator()(const Tensor& x) const { return layer_norm(x, weight, bias, epsilon); }

SumAndNorm LayerNorm::add_then_norm(const Tensor& x, const Tensor& branch) const {
  return add_layer_norm(x, branch, weight, bias, epsilon);
}

Tensor Dropout::operator()(const Tensor& x, const Pass& pass) const {
  if (!is_noisy(rate, pass, "Dropout")) return x;
  return dropout(x, rate, pass.generator->next(Purpose::dropout));
}

Tensor DropPath::operator()(const Tensor& x, const Pass& pass) const {
  if (!is_noisy(rate, pass, "DropPath")) return x;
  return vitrine::drop_path(x, rate, pass.generator->next(Purpose::drop_path));
}

MultiHeadAttention MultiHeadAttention::make(std::int64_t dim, int heads, Initializer& init, double drop_rate) {
  VT_CHECK(heads > 0 && dim % heads == 0, "MultiHeadAttention: dim {} does not divide into {} heads", dim, heads);
  return {.qkv = Linear::make(dim, 3 * dim, init),
          .proj = Linear::make(dim, dim, init),
          .heads = heads,
          .proj_drop = {checked_rate(drop_rate, "MultiHeadAttention")}};
}

Tensor MultiHeadAttention::operator()(const Tensor& x, const Pass& pass) const {
  return proj_drop(proj(self_attention(qkv(x), heads)), pass);
}

Mlp Mlp::make(std::int64_t dim, std::int64_t hidden, Initializer& init, double drop_rate) {
  return {.fc1 = Linear::make(dim, hidden, init),
          .fc2 = Linear::make(hidden, dim, init),
          .drop = {checked_rate(drop_rate, "Mlp")}};
}

Tensor Mlp::operator()(const Tensor& x, const Pass& pass) const {
  const Tensor product = linear(x, for_input(fc1.weight, x));
  const Tensor hidden = fc1.bias ? bias_gelu(product, for_input(*fc1.bias, x)) : gelu(product);
  return drop(fc2(drop(hidden, pass)), pass);
}

PatchConvolution PatchConvolution::make(std::int64_t channels, std::int64_t patch, std::int64_t dim,
                                        Initializer& init) {
  VT_CHECK(channels > 0 && patch > 0 && dim > 0, "PatchEmbed: channels {}, patch {}, dim {}, expected all above 0",
           channels, patch, dim);
  const double bound = 1 / std::sqrt(static_cast<double>(channels * patch * patch));
  return {.weight = init.uniform({dim, channels, patch, patch}, bound), .bias = init.uniform({dim}, bound)};
}

Tensor PatchConvolution::operator()(const Tensor& images) const {
  const Shape& kernel = weight.shape();  // (D, C, P, P)
  const std::int64_t C = kernel[1], P = kernel[2];
  VT_CHECK(images.dim() == 4 && images.size(1) == C && images.size(2) % P == 0 && images.size(3) % P == 0,
           "PatchEmbed: images have shape {}, expected (B, {}, H, W) with H and W multiples of {}",
           to_string(images.shape()), C, P);
  const std::int64_t B = images.size(0), rows = images.size(2) / P, columns = images.size(3) / P;
  Tensor x = reshape(images, {B, C, rows, P, columns, P});
  x = permute(x, {0, 2, 4, 1, 3, 5});              // (B, rows, columns, C, P, P)
  x = reshape(x, {B, rows * columns, C * P * P});  // (B, N, C P P), the pixels of each patch
  return linear(x, reshape(for_input(weight, x), {kernel[0], C * P * P}), for_input(bias, x));
}

}  // namespace vitrine
