// The layers of vision transformers: linear, normalisation, noise, attention, MLP and patch
// embedding.
//
// Layers are values made by `make`, hold their parameters under timm's names, and are called like
// functions. Those that act differently in training take a Pass. x is (..., D) or (B, N, D), on the
// device of the parameters. Where x is bf16 and the parameters are f32 (mixed precision), layers
// compute in bf16, LayerNorm with f32 statistics and factors.
#pragma once

#include <optional>

#include "nn/init.h"
#include "nn/module.h"
#include "ops/ops.h"

namespace vitrine {

/// The parameter as ops on x take it: for x in bf16, an f32 parameter is rounded to bf16, and its
/// gradient comes back in f32.
Tensor for_input(const Parameter& parameter, const Tensor& x);
OptionalTensor for_input(const std::optional<Parameter>& parameter, const Tensor& x);

/// y = x weight^T + bias over the last dim.
struct Linear {
  Parameter weight;               // (out, in)
  std::optional<Parameter> bias;  // (out)

  static void fields(auto& self, auto&& field) {
    field("weight", self.weight);
    field("bias", self.bias);
  }
  static Linear make(std::int64_t in, std::int64_t out, Initializer& init, bool with_bias = true);
  Tensor operator()(const Tensor& x) const;  // (..., in) -> (..., out)
};

/// Normalises the last dim. ViT checkpoints want epsilon 1e-6, Swin 1e-5.
struct LayerNorm {
  Parameter weight;  // (D), starts at 1
  Parameter bias;    // (D), starts at 0
  double epsilon = 1e-6;

  static void fields(auto& self, auto&& field) {
    field("weight", self.weight);
    field("bias", self.bias);
    field("epsilon", self.epsilon);
  }
  static LayerNorm make(std::int64_t dim, Initializer& init, double epsilon = 1e-6);
  Tensor operator()(const Tensor& x) const;
  /// {x + branch, the norm of that}: a residual connection and the norm after it, in one pass.
  SumAndNorm add_then_norm(const Tensor& x, const Tensor& branch) const;
};

/// Zeroes elements with probability `rate` in training and scales the rest by 1 / (1 - rate).
struct Dropout {
  double rate = 0;  // in [0, 1)

  static void fields(auto& self, auto&& field) { field("rate", self.rate); }
  Tensor operator()(const Tensor& x, const Pass& pass) const;
};

/// The same per sample (dim 0), for a whole residual branch: Huang et al. 2016, "Deep networks with
/// stochastic depth".
struct DropPath {
  double rate = 0;  // in [0, 1)

  static void fields(auto& self, auto&& field) { field("rate", self.rate); }
  Tensor operator()(const Tensor& x, const Pass& pass) const;
};

/// softmax(q k^T / sqrt(D / heads)) v for each head, then a projection. Vaswani et al. 2017; timm's
/// Attention.
struct MultiHeadAttention {
  Linear qkv;   // D -> 3 D, rows in the order [q | k | v], then head, then dim
  Linear proj;  // D -> D
  int heads = 1;
  Dropout proj_drop;

  static void fields(auto& self, auto&& field) {
    field("qkv", self.qkv);
    field("proj", self.proj);
    field("heads", self.heads);
    field("proj_drop", self.proj_drop);
  }
  /// `dim` must be a multiple of `heads`.
  static MultiHeadAttention make(std::int64_t dim, int heads, Initializer& init, double drop_rate = 0);
  Tensor operator()(const Tensor& x, const Pass& pass) const;  // (B, N, D) -> (B, N, D)
};

/// Linear, GELU (erf), dropout, linear, dropout.
struct Mlp {
  Linear fc1;  // D -> hidden
  Linear fc2;  // hidden -> D
  Dropout drop;

  static void fields(auto& self, auto&& field) {
    field("fc1", self.fc1);
    field("fc2", self.fc2);
    field("drop", self.drop);
  }
  static Mlp make(std::int64_t dim, std::int64_t hidden, Initializer& init, double drop_rate = 0);
  Tensor operator()(const Tensor& x, const Pass& pass) const;
};

/// Weight and bias of a convolution whose stride is its kernel size, under the names of one: then
/// it is a linear layer on the pixels of each patch.
struct PatchConvolution {
  Parameter weight;  // (D, C, P, P)
  Parameter bias;    // (D)

  static void fields(auto& self, auto&& field) {
    field("weight", self.weight);
    field("bias", self.bias);
  }
  /// Starts as PyTorch's Conv2d does: weight and bias U(-1/sqrt(C P P), 1/sqrt(C P P)).
  static PatchConvolution make(std::int64_t channels, std::int64_t patch, std::int64_t dim, Initializer& init);
  /// (B, C, H, W) -> (B, H/P W/P, D), patches in row-major order; H and W must be multiples of P.
  Tensor operator()(const Tensor& images) const;
};

/// Cuts images into P x P patches and projects each to a token of D features.
struct PatchEmbed {
  PatchConvolution proj;

  static void fields(auto& self, auto&& field) { field("proj", self.proj); }
  static PatchEmbed make(std::int64_t channels, std::int64_t patch, std::int64_t dim, Initializer& init) {
    return {.proj = PatchConvolution::make(channels, patch, dim, init)};
  }
  Tensor operator()(const Tensor& images) const { return proj(images); }  // (B, C, H, W) -> (B, N, D)
};

}  // namespace vitrine
