// The operands of attention as ops/attention/reference.h takes them: arrays of doubles.
#pragma once

#include "op_table/op_table.h"
#include "ops/attention/reference.h"

namespace vitrine {

/// in = {q (B, H, N, D), k (B, H, M, D), v (B, H, M, D), and the bias if there is one}, all f64, of
/// any layout.
inline attention_reference::Problem attention_problem(const Tensors& in, double scale) {
  const Tensor &q = in[0], &k = in[1], &v = in[2];
  attention_reference::Problem x{.B = q.size(0),
                                 .H = q.size(1),
                                 .N = q.size(2),
                                 .M = k.size(2),
                                 .D = q.size(3),
                                 .scale = scale,
                                 .q = q.to_vector<double>(),
                                 .k = k.to_vector<double>(),
                                 .v = v.to_vector<double>()};
  if (in.size() > 3) {
    const Tensor& bias = in[3];
    x.bias = bias.to_vector<double>();
    for (int d = 1; d <= bias.dim(); ++d) x.bias_shape[static_cast<std::size_t>(4 - d)] = bias.size(-d);
  }
  return x;
}

}  // namespace vitrine
