// Makes the layouts of layouts.h.
#include "op_table/layouts.h"

#include <algorithm>

namespace vitrine {
namespace {

using Edit = std::function<Tensor(const Tensor&)>;

Dims reversed_dims(int count) {
  Dims order;
  for (int d = count - 1; d >= 0; --d) order.push_back(d);
  return order;
}

bool is_laid_out(const Tensor& input) { return is_floating(input.dtype()); }

Tensors map_floating_inputs(const Tensors& inputs, const Edit& edit) {
  Tensors result;
  for (const Tensor& input : inputs) result.push_back(is_laid_out(input) ? edit(input) : input);
  return result;
}

/// A base whose every second element along the last dim, from the second on, is x; the others are
/// poison-like large values.
Tensor spread(const Tensor& x) {
  Shape shape = x.shape();
  shape[x.dim() - 1] = 2 * x.size(-1) + 1;
  Tensor base = full(shape, 1e3, x.dtype());
  const Tensor inner = slice(base, -1, 1, 2 * x.size(-1), 2);
  Tensor target = inner;
  copy_into(target, x);
  return base;
}

}  // namespace

std::vector<Layout> layouts_for(const Tensors& inputs) {
  std::vector<Layout> layouts;
  layouts.push_back({"row-major", inputs, [](const Tensors& bases) { return bases; }});
  const auto reverse = [](const Tensor& x) { return permute(x, reversed_dims(x.dim())); };
  const bool any_matrix = std::ranges::any_of(inputs, [](const Tensor& x) { return is_laid_out(x) && x.dim() >= 2; });
  const bool all_have_dims =
      std::ranges::all_of(inputs, [](const Tensor& x) { return !is_laid_out(x) || x.dim() >= 1; });
  if (any_matrix) {
    layouts.push_back({"transposed", map_floating_inputs(inputs, [&](const Tensor& x) { return clone(reverse(x)); }),
                       [reverse](const Tensors& bases) { return map_floating_inputs(bases, reverse); }});
  }
  if (all_have_dims) {
    layouts.push_back({"stepped slice", map_floating_inputs(inputs, spread), [](const Tensors& bases) {
                         return map_floating_inputs(bases,
                                                    [](const Tensor& x) { return slice(x, -1, 1, x.size(-1) - 1, 2); });
                       }});
    const bool can_expand =
        std::ranges::all_of(inputs, [](const Tensor& x) { return !is_laid_out(x) || x.size(0) > 0; });
    std::vector<Shape> shapes;
    for (const Tensor& input : inputs) shapes.push_back(input.shape());
    if (can_expand) {
      layouts.push_back({"expanded",
                         map_floating_inputs(inputs, [](const Tensor& x) { return clone(slice(x, 0, 0, 1)); }),
                         [shapes](const Tensors& bases) {
                           Tensors result;
                           for (std::size_t i = 0; i < bases.size(); ++i) {
                             result.push_back(is_laid_out(bases[i]) ? expand(bases[i], shapes[i]) : bases[i]);
                           }
                           return result;
                         }});
    }
  }
  if (inputs.size() >= 2 && is_laid_out(inputs[0]) && is_laid_out(inputs[1]) &&
      inputs[0].shape() == inputs[1].shape()) {
    Tensors bases = inputs;
    bases.erase(bases.begin() + 1);
    layouts.push_back({"the same tensor twice", bases, [](const Tensors& given) {
                         Tensors result = given;
                         result.insert(result.begin(), given[0]);
                         return result;
                       }});
  }
  return layouts;
}

std::vector<OutputLayout> output_layouts() {
  return {{"transposed output gradient", [](const Tensor& y) { return permute(y, reversed_dims(y.dim())); }},
          {"sliced output gradient", [](const Tensor& y) { return y.dim() ? slice(y, 0, 0, y.size(0), 2) : y; }},
          {"expanded output gradient", [](const Tensor& y) { return sum(y); }}};
}

}  // namespace vitrine
