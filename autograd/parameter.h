// Parameter: a tensor that training changes, with an identity of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tensor/tensor.h"

namespace vitrine {

/// Used as a Tensor it becomes a leaf of the tape that is recording, once; backward then returns
/// its gradient. Copying a Parameter shares the elements; `deep_copy` in nn/module.h does not.
class Parameter {
 public:
  Parameter() = default;
  explicit Parameter(Tensor value) : value_(std::move(value)) {}

  /// The tensor as ops see it: tracked by the tape that is recording on this thread, if any.
  operator Tensor() const;  // NOLINT: implicit, so that a layer reads linear(x, weight, bias)

  /// The elements without a trace, for optimisers, checkpoints and initialisation.
  Tensor& value() { return value_; }
  const Tensor& value() const { return value_; }

  // ---- The bf16 copy ----
  //
  // Mixed precision keeps the weights in f32, for small updates would be lost in bf16, and computes
  // in bf16. Instead of each layer rounding its weight in each forward pass, the optimiser
  // (Optimizer::keep_bf16_copy) rounds all of them in one pass after each update. A layer whose
  // input is bf16 takes the copy (nn/layers.cpp). The gradient of the copy comes in bf16, and stays
  // so until the optimiser takes in those of all parameters (BackwardContext::add_in_compute_dtype,
  // Gradients::raw_gradient).
  //
  // The copy belongs to one version of the elements. After any other change of them (weights are
  // loaded, or averaged) it counts as undefined, and layers round the weight themselves until the
  // next update.

  /// The copy, or an undefined tensor where there is none of the elements as they are now.
  Tensor bf16_copy() const {
    if (!bf16_copy_.defined() || !defined() || copied_from_.lock() != value_.storage()) return {};
    return copied_version_ == value_.storage()->version() ? bf16_copy_ : Tensor();
  }
  /// `copy` has been made of the elements as they are now.
  void set_bf16_copy(const Tensor& copy) {
    bf16_copy_ = copy;
    copied_from_ = value_.storage();
    copied_version_ = value_.storage()->version();
  }

  const Shape& shape() const { return value_.shape(); }
  bool defined() const { return value_.defined(); }

  const Trace& trace() const { return trace_; }
  void set_trace(Trace trace) const { trace_ = trace; }

 private:
  Tensor value_;
  Tensor bf16_copy_;
  std::weak_ptr<Storage> copied_from_;  // in this version:
  std::uint64_t copied_version_ = 0;
  mutable Trace trace_;  // bookkeeping of the tape, not part of the value
};

/// A parameter of a module, as lists of them name it: "blocks.3.attn.qkv.weight".
struct NamedParameter {
  std::string name;
  Parameter* parameter;
};

}  // namespace vitrine
