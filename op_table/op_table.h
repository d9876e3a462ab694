// The op table: one row per public op. That row alone drives its correctness tests, its gradient
// check, its layouts, its error messages, `vitrine gradcheck` and its line in the benchmark.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace vitrine {

using Tensors = std::vector<Tensor>;
using Call = std::function<Tensor(const Tensors&)>;

/// One call of an op on concrete inputs.
struct OpCase {
  std::string name;  // what is special: "broadcast", "odd sizes", "fully masked row"
  Tensors inputs;    // f64 (checked by gradcheck) or index/bool (passed through); the drivers cast f64 to f32 and bf16
  std::function<Tensor(const Tensors&)> call;  // the op itself, with the case's attributes bound
  /// The same once more as naive loops in f64 on the CPU, written from the formula and from no op
  /// of ours.
  std::function<Tensor(const Tensors&)> reference;
};

/// A call that must throw; the message must contain `message`.
struct OpError {
  std::function<void()> call;
  std::string message;
};

/// One size at which the benchmark times the op.
struct OpBenchmark {
  std::string name;  // "(128, 65, 192)"
  Tensors inputs;    // f32
  std::function<Tensor(const Tensors&)> call;
  double flops = 0;  // of the forward call; 0 = the op is judged by bytes
  double bytes = 0;  // read and written by the forward call
};

/// A fused op and its composition from ops/composed.h, with the same attributes bound.
struct OpComposition {
  Tensors inputs;  // f64 or indices, as in a case
  std::function<Tensor(const Tensors&)> fused, composed;
};

struct OpRow {
  std::string op;  // the function's name in ops.h
  std::function<std::vector<OpCase>()> cases;
  bool differentiable = true;
  bool second_derivative = true;  // its gradient can itself be differentiated
  /// Largest error against the reference, relative to max(1, |reference|), in f32; bf16 is allowed
  /// 2^-8 of it and rounding.
  double f32_tolerance = 1e-6;
  std::vector<OpError> errors;
  std::function<OpBenchmark()> benchmark;
  std::function<OpBenchmark()> second_benchmark = {};  // another size, where one does not tell everything
  std::function<OpComposition()> composition = {};     // of every op that ops/composed.h declares

  std::vector<std::function<OpBenchmark()>> benchmarks() const {
    if (second_benchmark) return {benchmark, second_benchmark};
    return {benchmark};
  }
};

/// Every row. Family `softmax` is the file cases/softmax.cpp with the function softmax_rows():
/// CMake makes the list of families from the files' names.
const std::vector<OpRow>& op_table();

/// Deterministic test data: `uniform` in [low, high), never closer than 1e-2 to the kinks in
/// `avoid`.
Tensor test_values(const Shape& shape, std::uint64_t stream, double low = -2, double high = 2,
                   std::initializer_list<double> avoid = {});
Tensor test_indices(const Shape& shape, std::int64_t below, std::uint64_t stream, DType dtype = DType::i64);

/// Calls body(index, offset) for each multi-index of `shape` in row-major order: the loop of every
/// naive reference.
void for_each_index(const Shape& shape, const std::function<void(const Dims& index, std::int64_t position)>& body);
/// ||a - b|| / ||b|| of two tensors of one shape, on any device. NaN where either has one.
double relative_distance(const Tensor& a, const Tensor& b);
/// Element of an f64 (or any) tensor at a multi-index, as a double; dims of size 1 broadcast.
double value_at(const Tensor& x, const Dims& index);

}  // namespace vitrine
