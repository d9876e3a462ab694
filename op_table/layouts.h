// The memory layouts that an op must accept, as differentiable views of row-major bases.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "op_table/op_table.h"

namespace vitrine {

/// `view(bases)` are inputs for the op whose strides are those that `name` says. It is made of ops,
/// so gradients pass.
struct Layout {
  std::string name;
  Tensors bases;
  std::function<Tensors(const Tensors&)> view;
};

/// Row-major, transposed, stepped slice with offset, expanded, and (where two inputs have one
/// shape) the same tensor twice. Only floating inputs are laid out anew; layouts that the shapes do
/// not allow are left out.
std::vector<Layout> layouts_for(const Tensors& inputs);

/// Functions of the output that hand the op an output gradient that is transposed, sliced, or
/// expanded with stride 0.
struct OutputLayout {
  std::string name;
  std::function<Tensor(const Tensor&)> view;
};
std::vector<OutputLayout> output_layouts();

}  // namespace vitrine
