// The compositions: what each fused op means, written with primitive ops alone. One definition
// serves three times: as the explanation for a reader, as a reference in tests, and as the second
// derivative (the public op calls it when what the tape records must be differentiable twice). Each
// is defined in its op's file.
#pragma once

#include "ops/ops.h"

namespace vitrine {

// ---- GELU (ops/gelu.cu, ops/bias_gelu.cu) ----

Tensor gelu_composed(const Tensor& x, GeluForm form = GeluForm::erf);
Tensor bias_gelu_composed(const Tensor& x, const Tensor& bias);

// ---- Softmax family (ops/softmax.cu) ----

Tensor softmax_composed(const Tensor& x, int dim = -1);
Tensor log_softmax_composed(const Tensor& x, int dim = -1);

// ---- Normalisation (ops/norm/layer_norm.cu) ----

Tensor layer_norm_composed(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon = 1e-5);

// ---- Normalisation of images (ops/norm/norm.cu) ----

Tensor batch_norm_composed(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon);  // in training
Tensor group_norm_composed(const Tensor& x, std::int64_t groups, const Tensor& weight, const Tensor& bias,
                           double epsilon = 1e-5);

// ---- Attention (ops/attention/attention.cu) ----

Tensor attention_composed(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias, double scale);

// ---- Losses (ops/cross_entropy.cu) ----

Tensor cross_entropy_composed(const Tensor& logits, const Tensor& labels, double smoothing = 0);
Tensor soft_cross_entropy_composed(const Tensor& logits, const Tensor& targets);
Tensor binary_cross_entropy_composed(const Tensor& logits, const Tensor& targets);

}  // namespace vitrine
