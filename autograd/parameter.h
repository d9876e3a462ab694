// Parameter: a tensor that training changes, with an identity of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tensor/tensor.h"

namespace vitrine {

/// Used as a Tensor it becomes a leaf of the tape that is recording, once; backward then returns its gradient. Copying a
/// Parameter shares the elements; `deep_copy` in nn/module.h does not.
class Parameter {
 public:
  Parameter() = default;
  explicit Parameter(Tensor value) : value_(std::move(value)) {}

  /// The tensor as ops see it: tracked by the tape that is recording on this thread, if any.
  operator Tensor() const;  // NOLINT: implicit, so that a layer reads linear(x, weight, bias)

  /// The elements without a trace, for optimisers, checkpoints and initialisation.
  Tensor& value() { return value_; }
  const Tensor& value() const { return value_; }

  /// The elements rounded to bf16, where somebody keeps such a copy and has rewritten it since they last changed; else undefined.
  Tensor rounded() const {
    if (!rounded_.defined() || !defined() || rounded_of_.lock() != value_.storage()) return {};
    return rounded_version_ == value_.storage()->version() ? rounded_ : Tensor();
  }
  /// For whoever keeps the copy, as soon as it is written.
  void set_rounded(const Tensor& copy) {
    rounded_ = copy;
    rounded_of_ = value_.storage();
    rounded_version_ = value_.storage()->version();
  }

  const Shape& shape() const { return value_.shape(); }
  bool defined() const { return value_.defined(); }

  const Trace& trace() const { return trace_; }
  void set_trace(Trace trace) const { trace_ = trace; }

 private:
  Tensor value_;
  Tensor rounded_;  // of the elements that rounded_of_ had in that version
  std::weak_ptr<Storage> rounded_of_;
  std::uint64_t rounded_version_ = 0;
  mutable Trace trace_;  // bookkeeping of the tape, not part of the value
};

/// A parameter of a module, as lists of them name it: "blocks.3.attn.qkv.weight".
struct NamedParameter {
  std::string name;
  Parameter* parameter;
};

}  // namespace vitrine
