// Cases and rows of the ops that only move elements: y[index] = x[source of index].
#pragma once

#include <utility>

#include "op_table/op_table.h"

namespace vitrine {

/// An f64 tensor of `shape` whose element at a multi-index is element(index).
inline Tensor from_elements(const Shape& shape, const std::function<double(const Dims& index)>& element) {
  Tensor y = empty(shape, DType::f64);
  for_each_index(shape, [&](const Dims& index, std::int64_t position) { y.data<double>()[position] = element(index); });
  return y;
}

/// The element of x at a position in row-major order.
inline double at_position(const Tensor& x, std::int64_t position) {
  Dims index = x.shape();
  for (int d = x.dim() - 1; d >= 0; --d) {
    index[d] = position % x.shape()[d];
    position /= x.shape()[d];
  }
  return value_at(x, index);
}

inline std::int64_t position_of(const Dims& index, const Shape& shape) {
  std::int64_t position = 0;
  for (int d = 0; d < shape.size(); ++d) position = position * shape[d] + index[d];
  return position;
}

/// Reference of all ops that keep the row-major order of the elements.
inline Call same_order(const Shape& shape) {
  return [shape](const Tensors& x) {
    return from_elements(shape, [&](const Dims& index) { return at_position(x[0], position_of(index, shape)); });
  };
}

/// A case of one input whose output has the input's elements in the same order.
inline OpCase in_order(const char* name, const Shape& from, const Shape& result, Call call) {
  return {name, {test_values(from, 1)}, std::move(call), same_order(result)};
}

/// A case of one input: y[index] = x[source(index)].
inline OpCase moved(const char* name, const Shape& from, const Shape& result, Call call,
                    std::function<Dims(const Dims&)> source) {
  return {name, {test_values(from, 2)}, std::move(call), [result, source](const Tensors& x) {
            return from_elements(result, [&](const Dims& index) { return value_at(x[0], source(index)); });
          }};
}

/// Views cost nothing by themselves: what is timed is the copy that makes the view's elements
/// dense.
inline std::function<OpBenchmark()> copy_benchmark(const Shape& shape, Call call) {
  return [shape, call = std::move(call)] {
    const Tensor x = cast(test_values(shape, 3), DType::f32);
    const auto bytes = 2.0 * 4.0 * static_cast<double>(call({x}).numel());  // read once, written once
    return OpBenchmark{to_string(shape), {x}, [call](const Tensors& inputs) { return clone(call(inputs)); }, 0, bytes};
  };
}

inline OpRow row(const char* op, std::vector<OpCase> cases, std::vector<OpError> errors,
                 std::function<OpBenchmark()> benchmark) {
  OpRow result;
  result.op = op;
  result.cases = [cases = std::move(cases)] { return cases; };
  result.errors = std::move(errors);
  result.benchmark = std::move(benchmark);
  result.f32_tolerance = 0;  // elements move, and keep their bits
  return result;
}

}  // namespace vitrine
