// What decides whether a rung is right.
#include "benchmarks/ladders/ladder.h"

#include <cmath>

#include "op_table/op_table.h"

namespace vitrine::ladders {

Tensors on_device(const Tensors& inputs, Device device) {
  Tensors result;
  for (const Tensor& x : inputs) result.push_back(to_device(x, device));
  return result;
}

Tensors fresh_results(const Work& work) {
  for (Tensor& result : work()) fill(result, NAN);
  return work();
}

double checked_error(const Ladder& ladder, const Rung& rung, const Tensors& results, const Tensors& expected) {
  VT_CHECK(results.size() == expected.size(), "{}, {}: {} results, expected {}", ladder.name, rung.name, results.size(),
           expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    VT_CHECK(results[i].shape() == expected[i].shape(), "{}, {}: result {} has shape {}, expected {}", ladder.name,
             rung.name, i, to_string(results[i].shape()), to_string(expected[i].shape()));
    const double error = relative_distance(results[i], expected[i]);
    worst = error <= worst ? worst : error;  // NaN stays
  }
  VT_CHECK(worst <= ladder.tolerance, "{}, {}: differs from the loops in f64 by {:.1e} of the norm, accepted {:.0e}",
           ladder.name, rung.name, worst, ladder.tolerance);
  return worst;
}

}  // namespace vitrine::ladders
