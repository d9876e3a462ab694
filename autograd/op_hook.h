// OpHook: a function that sees what each op computes, forward and backward, as debuggers and
// profilers want it.
//
//   const OpHook hook([](const OpResult& r) { fmt::print("{} {}\n", r.op, to_string(r.value.shape())); });
//   Tape tape;
//   tape.backward(loss_of(model, images));
#pragma once

#include <functional>

#include "tensor/tensor.h"

namespace vitrine {

/// One result of an op.
struct OpResult {
  const char* op;
  int input;            // in backward, the input whose gradient `value` adds to; -1 in forward
  const Tensor& value;  // y, or that gradient; to be read only
  bool is_gradient() const { return input >= 0; }
};

/// While alive, `see` gets every result that a tape of this thread records, and every gradient that
/// a rule of such a tape adds. If several hooks are alive, only the innermost is called. The ops
/// that `see` itself calls are neither shown to a hook nor recorded.
class OpHook {
 public:
  explicit OpHook(std::function<void(const OpResult&)> see);
  ~OpHook();
  OpHook(const OpHook&) = delete;
  OpHook& operator=(const OpHook&) = delete;

  /// For the tape: whether a hook is alive on this thread, and a result to call it with.
  static bool is_alive();
  static void show(const OpResult& result);

 private:
  std::function<void(const OpResult&)> see_;
  OpHook* outer_;
};

}  // namespace vitrine
