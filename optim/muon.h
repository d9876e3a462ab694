// Muon: momentum, orthogonalised by a Newton-Schulz iteration, for matrices; AdamW for the rest.
// Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"
// (kellerjordan.github.io/posts/muon), with his coefficients and Nesterov's momentum.
//
// The names of options are timm's. Its defaults are others: no Nesterov momentum (and NAdamW
// beside it), coefficients that differ from step to step ("quintic"; these are "original").
#pragma once

#include <string>
#include <vector>

#include "optim/adamw.h"

namespace vitrine {

struct MuonOptions {
  /// What lr is multiplied by for a matrix (out, in), whose update has singular values near 1.
  enum class AdjustLr {
    original,         // sqrt(max(1, out / in)), Jordan's
    match_rms_adamw,  // 0.2 sqrt(max(out, in)): elements change about as much as by AdamW, so that
                      // its lr and weight decay serve. Liu et al. 2025, "Muon is scalable", 2.2
  };

  double learning_rate = 1e-3;
  double momentum = 0.95;  // in [0, 1)
  bool nesterov = true;
  int ns_steps = 5;  // of the Newton-Schulz iteration
  AdjustLr adjust_lr_fn = AdjustLr::match_rms_adamw;

  /// Names of parameters that AdamW updates even if they are matrices: embeddings, the head.
  std::vector<std::string> fallback_list = {};
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;  // of AdamW

  void check() const;
};

/// With G the gradient of a matrix W (out, in); a kernel (out, in, h, w) is a matrix (out, in h w):
///   M = momentum M + (1 - momentum) G
///   U = (1 - momentum) G + momentum M with Nesterov's momentum, else M
///   W -= lr (adjust orthogonalize(U) + weight_decay W)
///
/// Which parameters are matrices is timm's rule: two sizes above 1, none of the first two is 1
/// (position embeddings, tokens, depthwise kernels), out and in at least 4 and within a factor of
/// 128 of each other. AdamW updates the others, and those of `fallback_list`, with the same lr.
class Muon final : public Optimizer {
 public:
  explicit Muon(const std::vector<ParameterGroup>& groups, const MuonOptions& options = {});

 private:
  /// The groups for AdamW, then one for each matrix.
  struct Split {
    std::vector<ParameterGroup> groups;
    std::size_t first_matrix = 0;  // index of a group
  };
  static Split split(const std::vector<ParameterGroup>& groups, const MuonOptions& options);
  Muon(Split split, const MuonOptions& options);

  void prepare(const std::vector<ArenaSegment>& segments) override;
  void update(const std::vector<ArenaSegment>& segments) override;
  std::vector<ArenaSegment> of_adamw(const std::vector<ArenaSegment>& segments) const;
  std::vector<ArenaSegment> of_muon(const std::vector<ArenaSegment>& segments) const;
  template <class T>
  void update_matrices(const std::vector<ArenaSegment>& matrices);

  MuonOptions options_;
  std::size_t first_matrix_;
  std::vector<Shape> shapes_;  // (out, in) of the matrix of each group from first_matrix_ on
  FusedUpdate<AdamWOptions, AdamWUpdate> adamw_;
  Tensor momentum_functor_, step_functors_;  // bytes on the device
};

/// U V^T of x = U S V^T (m, n) as far as `steps` of the quintic Newton-Schulz iteration come, which
/// leave singular values between about 0.7 and 1.2, for those that were not tiny beside the norm
/// of x. f32 is computed in bf16, as published, f64 in f64; the result has the dtype of x.
Tensor orthogonalize(const Tensor& x, int steps = 5);

}  // namespace vitrine
