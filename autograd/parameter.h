// Parameter: a tensor that training changes, with an identity of its own.
#pragma once

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

  const Shape& shape() const { return value_.shape(); }
  bool defined() const { return value_.defined(); }

  const Trace& trace() const { return trace_; }
  void set_trace(Trace trace) const { trace_ = trace; }

 private:
  Tensor value_;
  mutable Trace trace_;  // bookkeeping of the tape, not part of the value
};

/// A parameter of a module, as lists of them name it: "blocks.3.attn.qkv.weight".
struct NamedParameter {
  std::string name;
  Parameter* parameter;
};

}  // namespace vitrine
