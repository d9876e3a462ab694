// The gradient checks of the op table.
#include <cmath>
#include <limits>

#include "autograd/gradcheck.h"
#include "op_table/drivers.h"
#include "op_table/layouts.h"

namespace vitrine {
namespace {

void merge(OpCheck& check, const GradcheckReport& report, const std::string& where) {
  ++check.cases;
  if (!report.passed) ++check.failed;
  if (report.worst_relative_error > check.worst_relative_error || check.where.empty()) {
    check.worst_relative_error = report.worst_relative_error;
    check.where = where + ": " + report.message;
  }
}

/// Runs one check; an exception counts as a failure that says what was thrown.
void run(OpCheck& check, const TensorFunction& function, const Tensors& inputs, const std::string& where,
         GradcheckOptions options = {}) {
  try {
    merge(check, check_gradients(function, inputs, options), where);
  } catch (const Error& error) {
    merge(check,
          {.passed = false, .worst_relative_error = std::numeric_limits<double>::infinity(), .message = error.what()},
          where);
  }
}

bool has_f64(const Tensors& inputs) {
  for (const Tensor& input : inputs) {
    if (input.dtype() == DType::f64) return true;
  }
  return false;
}

}  // namespace

// Where each thread of a kernel is a fibre, only the row-major form of a case gets the full
// Jacobian; the other layouts get a few directions of it. (Their gradients are also compared with
// the CPU's, element by element.)
#if defined(VT_HOST_CUDA)
constexpr int directions_on_cuda = 2;
#else
constexpr int directions_on_cuda = 0;
#endif

OpCheck check_op_gradients(const OpRow& row, Device device) {
  OpCheck check{.op = row.op};
  if (!row.differentiable) return check;
  const GradcheckOptions full, brief{.directions = device.is_cuda() ? directions_on_cuda : 0};
  for (const OpCase& op_case : row.cases()) {
    if (!has_f64(op_case.inputs)) continue;
    const std::vector<Layout> layouts = layouts_for(op_case.inputs);
    for (const Layout& layout : layouts) {
      run(
          check, [&](const Tensors& bases) { return op_case.call(layout.view(bases)); }, moved(layout.bases, device),
          op_case.name + ", " + layout.name, &layout == &layouts.front() ? full : brief);
    }
    for (const OutputLayout& output : output_layouts()) {
      run(
          check, [&](const Tensors& inputs) { return output.view(op_case.call(inputs)); },
          moved(op_case.inputs, device), op_case.name + ", " + output.name, brief);
    }
  }
  return check;
}

OpCheck check_op_second_derivatives(const OpRow& row) {
  OpCheck check{.op = row.op};
  if (!row.differentiable || !row.second_derivative) return check;
  for (const OpCase& op_case : row.cases()) {
    if (!has_f64(op_case.inputs)) continue;
    // The function that is checked: the gradient of a weighted sum of outputs, all inputs'
    // gradients in one vector.
    const TensorFunction gradient = [&](const Tensors& inputs) {
      Tape inner;
      Tensors leaves = inputs;
      for (Tensor& leaf : leaves) {
        if (leaf.dtype() == DType::f64) leaf = inner.watch(leaf);
      }
      const Tensor y = op_case.call(leaves);
      const Gradients grads = inner.backward(y, test_values(y.shape(), 7));
      Tensors parts;
      for (const Tensor& leaf : leaves) {
        if (leaf.dtype() != DType::f64) continue;
        const Tensor part = grads[leaf];
        parts.push_back(reshape(part.defined() ? part : zeros_like(leaf), {-1}));
      }
      return concat(parts, 0);
    };
    run(check, gradient, op_case.inputs, op_case.name, {.relative_tolerance = 1e-6, .absolute_tolerance = 1e-8});
  }
  return check;
}

}  // namespace vitrine
