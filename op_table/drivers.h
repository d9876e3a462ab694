// What is done with every row of the op table. `vitrine gradcheck` runs the gradient part; the
// tests run all of it.
#pragma once

#include <string>

#include "op_table/op_table.h"

namespace vitrine {

/// Copies of the inputs on another device.
Tensors moved(const Tensors& inputs, Device device);

/// Whether shapes, dtypes and all bits are equal, on whatever devices.
bool same_bits(const Tensor& a, const Tensor& b);

/// The outcome of one kind of check on one row.
struct OpCheck {
  std::string op = {};
  int cases = 0;  // checks made: cases times layouts
  int failed = 0;
  double worst_relative_error = 0;  // NaN counts as infinity
  std::string where = {};           // the case, the layout and the entry of the worst error
};

/// Full-Jacobian gradient check in f64 of every case in every layout: row-major, transposed,
/// stepped slice, expanded, the same tensor twice, and output gradients that are transposed, sliced
/// and expanded.
OpCheck check_op_gradients(const OpRow& row, Device device = cpu);

/// The gradient of the gradient, through nested tapes, by the same finite differences.
OpCheck check_op_second_derivatives(const OpRow& row);

/// Values against the row's naive reference, in the given floating dtype. The reference reads the
/// rounded inputs.
OpCheck check_op_values(const OpRow& row, DType dtype);

/// Values in other layouts against values in row-major order, in f64.
OpCheck check_op_layouts(const OpRow& row);

/// The same bits twice, and for 1, 2 and 3 threads, in f32: values and gradients.
OpCheck check_op_determinism(const OpRow& row, Device device = cpu);

/// Values and gradients on `device` in the given floating dtype, in every layout, against the CPU
/// in f64 on the same rounded inputs.
OpCheck check_op_device(const OpRow& row, DType dtype, Device device);

/// Every error of the row is thrown with its message.
OpCheck check_op_errors(const OpRow& row);

}  // namespace vitrine
