// Cases and rows of ops that compute each output element from the elements at its place, with
// broadcasting.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "op_table/op_table.h"

namespace vitrine {

using Formula = std::function<double(const std::vector<double>&)>;  // of the operands' elements at one place

/// NumPy's broadcasting, written down once more: aligned at the last dim, a size of 1 gives way.
inline Shape naive_broadcast(const Tensors& x) {
  int dims = 0;
  for (const Tensor& operand : x) dims = std::max(dims, operand.dim());
  Shape shape = Dims::filled(dims, 1);
  for (const Tensor& operand : x) {
    for (int d = 1; d <= operand.dim(); ++d) {
      if (operand.size(-d) != 1) shape[dims - d] = operand.size(-d);
    }
  }
  return shape;
}

inline Tensor map_naively(const Tensors& x, const Formula& formula) {
  const Shape shape = naive_broadcast(x);
  Tensor y = empty(shape, DType::f64);
  for_each_index(shape, [&](const Dims& index, std::int64_t position) {
    std::vector<double> values;
    for (const Tensor& operand : x) values.push_back(value_at(operand, index));
    y.data<double>()[position] = formula(values);
  });
  return y;
}

inline OpCase pointwise(std::string name, Tensors inputs, Call call, Formula formula) {
  return {std::move(name), std::move(inputs), std::move(call),
          [formula = std::move(formula)](const Tensors& x) { return map_naively(x, formula); }};
}

/// `inputs` and one output, all f32 of one shape.
inline std::function<OpBenchmark()> pointwise_benchmark(const Shape& shape, int inputs, Call call) {
  return [shape, inputs, call = std::move(call)] {
    OpBenchmark benchmark{.name = to_string(shape), .inputs = {}, .call = call};
    for (int i = 0; i < inputs; ++i) {
      benchmark.inputs.push_back(cast_data(test_values(shape, static_cast<std::uint64_t>(i), 0.5, 2), DType::f32));
    }
    const Tensor y = call(benchmark.inputs);
    benchmark.bytes = static_cast<double>(element_count(shape)) *
                      static_cast<double>(4 * static_cast<std::size_t>(inputs) + size_of(y.dtype()));
    return benchmark;
  };
}

}  // namespace vitrine
