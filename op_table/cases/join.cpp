// Rows of the ops that join and move: concat, stack, flip, roll, pad.
#include "op_table/moves.h"

namespace vitrine {
namespace {

/// y = the parts of x one behind the other along dim, element by element.
Tensor naive_concat(const Tensors& x, int dim) {
  Shape shape = x[0].shape();
  for (std::size_t i = 1; i < x.size(); ++i) shape[dim] += x[i].size(dim);
  return from_elements(shape, [&](Dims index) {
    std::size_t part = 0;
    while (index[dim] >= x[part].size(dim)) index[dim] -= x[part++].size(dim);
    return value_at(x[part], index);
  });
}

Tensor naive_stack(const Tensors& x, int dim) {
  Shape shape = x[0].shape();
  shape.insert(dim, static_cast<std::int64_t>(x.size()));
  return from_elements(shape, [&](Dims index) {
    const Tensor& part = x[static_cast<std::size_t>(index[dim])];
    index.erase(dim);
    return value_at(part, index);
  });
}

OpCase joined(const char* name, const std::vector<Shape>& shapes, int dim) {
  OpCase result{name,
                {},
                [dim](const Tensors& x) { return concat(x, dim); },
                [dim](const Tensors& x) { return naive_concat(x, dim < 0 ? dim + x[0].dim() : dim); }};
  for (std::size_t i = 0; i < shapes.size(); ++i) result.inputs.push_back(test_values(shapes[i], 10 + i));
  return result;
}

OpCase stacked(const char* name, const Shape& shape, std::size_t count, int dim) {
  OpCase result{name,
                {},
                [dim](const Tensors& x) { return stack(x, dim); },
                [dim](const Tensors& x) { return naive_stack(x, dim < 0 ? dim + x[0].dim() + 1 : dim); }};
  for (std::size_t i = 0; i < count; ++i) result.inputs.push_back(test_values(shape, 20 + i));
  return result;
}

/// Two inputs of one shape, in f32, read and written once.
std::function<OpBenchmark()> two_inputs(const Shape& shape, const Call& call) {
  return [=] {
    const Tensors x{cast(test_values(shape, 3), DType::f32), cast(test_values(shape, 4), DType::f32)};
    return OpBenchmark{to_string(shape) + " twice", x, call, 0, 4.0 * 4.0 * static_cast<double>(x[0].numel())};
  };
}

/// One input in f32; `moved_elements` of it are read, and as many written as the result has.
std::function<OpBenchmark()> one_input(const Shape& shape, const Call& call) {
  return [=] {
    const Tensor x = cast(test_values(shape, 3), DType::f32);
    const auto elements = static_cast<double>(x.numel() + call({x}).numel());
    return OpBenchmark{to_string(shape), {x}, call, 0, 4.0 * elements};
  };
}

// One case, one error per line; the formatter would spread each lambda over three.
// clang-format off
OpRow concat_row() {
  return row("concat",
             {joined("first dim", {{2, 3}, {1, 3}, {4, 3}}, 0), joined("last dim", {{3, 2}, {3, 5}}, -1),
              joined("middle dim, one shape", {{2, 3, 2}, {2, 3, 2}}, 1), joined("an empty part", {{2, 3}, {0, 3}}, 0),
              joined("a single part", {{3, 1}}, 1), joined("all empty", {{0, 3}, {0, 3}}, 0)},
             {{[] { concat({}, 0); }, "concat: there are no parts, expected one or more"},
              {[] { concat({zeros({2, 3}), zeros({2, 4})}, 0); },
               "concat: part 1 has shape (2, 4), expected that of part 0, (2, 3), but for dim 0"},
              {[] { concat({zeros({2, 3}), zeros({2})}, 0); }, "concat: part 1 has shape (2)"},
              {[] { concat({zeros({2}), zeros({2}, DType::f64)}, 0); }, "concat: part 1 is f64, expected f32"},
              {[] { concat({zeros({}), zeros({})}, 0); }, "concat: dim is 0"}},
             two_inputs({128, 65, 96}, [](const Tensors& x) { return concat(x, 2); }));
}

OpRow stack_row() {
  return row("stack",
             {stacked("in front", {2, 3}, 3, 0), stacked("in the middle", {2, 3}, 2, 1),
              stacked("behind", {3, 1}, 3, -1), stacked("0-d", {}, 4, 0), stacked("empty", {0, 2}, 2, 1)},
             {{[] { stack({}, 0); }, "stack: there are no parts"},
              {[] { stack({zeros({2}), zeros({3})}); }, "stack: part 1 has shape (3), expected (2) like part 0"},
              {[] { stack({zeros({2})}, 2); }, "stack: dim is 2, expected -2 to 1"}},
             two_inputs({128, 65, 96}, [](const Tensors& x) { return stack(x, 1); }));
}

OpRow flip_row() {
  return row(
      "flip",
      {moved("last dim", {3, 5}, {3, 5}, [](const Tensors& x) { return flip(x[0], {-1}); },
             [](const Dims& i) { return Dims{i[0], 4 - i[1]}; }),
       moved("two dims", {2, 3, 4}, {2, 3, 4}, [](const Tensors& x) { return flip(x[0], {0, 2}); },
             [](const Dims& i) { return Dims{1 - i[0], i[1], 3 - i[2]}; }),
       moved("all dims", {3, 4}, {3, 4}, [](const Tensors& x) { return flip(x[0], {1, 0}); },
             [](const Dims& i) { return Dims{2 - i[0], 3 - i[1]}; }),
       moved("no dims", {3, 2}, {3, 2}, [](const Tensors& x) { return flip(x[0], {}); },
             [](const Dims& i) { return i; }),
       moved("0-d", {}, {}, [](const Tensors& x) { return flip(x[0], {}); }, [](const Dims& i) { return i; }),
       moved("size 1", {1, 4}, {1, 4}, [](const Tensors& x) { return flip(x[0], {0}); },
             [](const Dims& i) { return i; }),
       moved("empty", {2, 0}, {2, 0}, [](const Tensors& x) { return flip(x[0], {0, 1}); },
             [](const Dims& i) { return i; })},
      {{[] { flip(zeros({2, 3}), {0, -2}); }, "flip: dims (0, -2) name dim 0 twice"},
       {[] { flip(zeros({2, 3}), {2}); }, "flip: dim is 2, expected -2 to 1"}},
      one_input({128, 3, 32, 32}, [](const Tensors& x) { return flip(x[0], {3}); }));
}

OpRow roll_row() {
  return row("roll",
             {moved("forwards", {5, 2}, {5, 2}, [](const Tensors& x) { return roll(x[0], {2}, {0}); },
                    [](const Dims& i) { return Dims{(i[0] + 3) % 5, i[1]}; }),
              moved("backwards, two dims", {2, 4, 5}, {2, 4, 5},
                    [](const Tensors& x) { return roll(x[0], {-1, -2}, {1, 2}); },
                    [](const Dims& i) { return Dims{i[0], (i[1] + 1) % 4, (i[2] + 2) % 5}; }),
              moved("further than the size", {3, 4}, {3, 4},
                    [](const Tensors& x) { return roll(x[0], {-9, 10}, {-1, 0}); },
                    [](const Dims& i) { return Dims{(i[0] + 2) % 3, (i[1] + 1) % 4}; }),
              moved("by nothing", {3, 2}, {3, 2}, [](const Tensors& x) { return roll(x[0], {3}, {0}); },
                    [](const Dims& i) { return i; }),
              moved("0-d", {}, {}, [](const Tensors& x) { return roll(x[0], {}, {}); },
                    [](const Dims& i) { return i; }),
              moved("empty", {0, 3}, {0, 3}, [](const Tensors& x) { return roll(x[0], {1, 1}, {0, 1}); },
                    [](const Dims& i) { return i; })},
             {{[] { roll(zeros({2, 3}), {1}, {0, 1}); },
               "roll: shifts (1) for dims (0, 1), expected one shift for each"},
              {[] { roll(zeros({2, 3}), {1, 1}, {1, -1}); }, "roll: dims (1, -1) name dim 1 twice"},
              {[] { roll(zeros({2, 3}), {1}, {2}); }, "roll: dim is 2, expected -2 to 1"}},
             one_input({32, 56, 56, 96}, [](const Tensors& x) { return roll(x[0], {-3, -3}, {1, 2}); }));
}

/// x in the middle of `value`, `before` elements of which come first in each dim.
OpCase padded(const char* name, const Shape& shape, const Dims& before, const Dims& after, double value) {
  return {name,
          {test_values(shape, 30)},
          [=](const Tensors& x) { return pad(x[0], before, after, value); },
          [=](const Tensors& x) {
            Shape wide = shape;
            for (int d = 0; d < shape.size(); ++d) wide[d] += before[d] + after[d];
            return from_elements(wide, [&](Dims index) {
              bool inside = true;
              for (int d = 0; d < shape.size(); ++d) {
                index[d] -= before[d];
                inside = inside && index[d] >= 0 && index[d] < shape[d];
              }
              return inside ? value_at(x[0], index) : value;
            });
          }};
}

OpRow pad_row() {
  return row(
      "pad",
      {padded("all around", {3, 4}, {1, 2}, {2, 1}, 0), padded("with a value", {2, 3, 1}, {0, 1, 1}, {1, 0, 0}, -1.5),
       padded("nothing", {3, 2}, {0, 0}, {0, 0}, 7), padded("0-d", {}, {}, {}, 1),
       padded("around nothing", {0, 2}, {2, 0}, {1, 1}, 0.25)},
      {{[] { pad(zeros({2, 3}), {1}, {1}); }, "pad: before (1) and after (1) for x (2, 3), expected one entry"},
       {[] { pad(zeros({2}), {-1}, {1}); }, "pad: before (-1) and after (1), expected 0 or more"}},
      one_input({128, 3, 32, 32}, [](const Tensors& x) { return pad(x[0], {0, 0, 4, 4}, {0, 0, 4, 4}); }));
}
// clang-format on

}  // namespace

std::vector<OpRow> join_rows() { return {concat_row(), stack_row(), flip_row(), roll_row(), pad_row()}; }

}  // namespace vitrine
