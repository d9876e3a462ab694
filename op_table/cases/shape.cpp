// Rows of the shape ops: reshape, flatten, permute, transpose, expand, unsqueeze, squeeze, slice,
// select, split, contiguous, cast, to.
#include "op_table/moves.h"

namespace vitrine {
namespace {

// One case, one error per line; the formatter would spread each lambda over three.
// clang-format off
OpRow reshape_row() {
  return row("reshape",
             {in_order("merge and cut", {3, 4, 5}, {2, 30}, [](const Tensors& x) { return reshape(x[0], {2, 30}); }),
              in_order("one size left open", {6, 7}, {3, 2, 7},
                       [](const Tensors& x) { return reshape(x[0], {3, -1, 7}); }),
              in_order("sizes of 1", {5, 1}, {1, 5, 1, 1},
                       [](const Tensors& x) { return reshape(x[0], {1, 5, 1, 1}); }),
              in_order("to 0-d", {1, 1}, {}, [](const Tensors& x) { return reshape(x[0], {}); }),
              in_order("from 0-d", {}, {1}, [](const Tensors& x) { return reshape(x[0], {-1}); }),
              in_order("empty", {0, 3}, {5, 0}, [](const Tensors& x) { return reshape(x[0], {5, 0}); }),
              in_order("of a transposed tensor", {3, 4}, {12},
                       [](const Tensors& x) { return reshape(transpose(reshape(transpose(x[0]), {4, 3})), {12}); })},
             {{[] { reshape(zeros({3, 4}), {5, -1}); },
               "reshape: shape (5, -1) does not fit x (3, 4), expected a shape of 12"},
              {[] { reshape(zeros({3, 4}), {2, 5}); },
               "reshape: shape (2, 5) does not fit x (3, 4), expected a shape of 12"},
              {[] { reshape(zeros({4}), {-1, -1}); }, "reshape: shape (-1, -1) for x (4), expected sizes of 0 or more"},
              {[] { reshape(zeros({4}), {-2}); }, "at most one -1"},
              {[] { reshape(zeros({0}), {0, -1}); }, "reshape: shape (0, -1) does not fit x (0)"}},
             copy_benchmark({128, 65, 192},
                            [](const Tensors& x) { return reshape(transpose(x[0], 0, 1), {65, 128 * 192}); }));
}

OpRow flatten_row() {
  return row("flatten",
             {in_order("all", {3, 4, 5}, {60}, [](const Tensors& x) { return flatten(x[0]); }),
              in_order("the middle", {2, 3, 4, 5}, {2, 12, 5}, [](const Tensors& x) { return flatten(x[0], 1, 2); }),
              in_order("one dim", {2, 3}, {2, 3}, [](const Tensors& x) { return flatten(x[0], 1, 1); }),
              in_order("from the end", {2, 3, 1, 2}, {2, 3, 2}, [](const Tensors& x) { return flatten(x[0], -2, -1); }),
              in_order("0-d", {}, {1}, [](const Tensors& x) { return flatten(x[0]); }),
              in_order("empty", {2, 0, 3}, {2, 0}, [](const Tensors& x) { return flatten(x[0], 1); })},
             {{[] { flatten(zeros({2, 3}), 1, 0); }, "flatten: first dim 1 comes after last dim 0 of x (2, 3)"},
              {[] { flatten(zeros({2, 3}), 2); }, "flatten: dim is 2, expected -2 to 1"}},
             copy_benchmark({128, 8, 8, 192}, [](const Tensors& x) { return flatten(x[0], 1, 2); }));
}

OpRow permute_row() {
  return row("permute",
             {moved("three dims", {3, 4, 5}, {5, 3, 4}, [](const Tensors& x) { return permute(x[0], {2, 0, 1}); },
                    [](const Dims& i) { return Dims{i[1], i[2], i[0]}; }),
              moved("four dims from the end", {2, 3, 1, 4}, {3, 4, 2, 1},
                    [](const Tensors& x) { return permute(x[0], {-3, -1, 0, 2}); },
                    [](const Dims& i) { return Dims{i[2], i[0], i[3], i[1]}; }),
              moved("identity", {4, 3}, {4, 3}, [](const Tensors& x) { return permute(x[0], {0, 1}); },
                    [](const Dims& i) { return i; }),
              moved("0-d", {}, {}, [](const Tensors& x) { return permute(x[0], {}); }, [](const Dims& i) { return i; }),
              moved("empty", {3, 0}, {0, 3}, [](const Tensors& x) { return permute(x[0], {1, 0}); },
                    [](const Dims& i) { return i; })},
             {{[] { permute(zeros({2, 3}), {0}); }, "permute: order (0) has 1 dims, expected 2, those of x (2, 3)"},
              {[] { permute(zeros({2, 3}), {1, -1}); }, "permute: order (1, -1) names dim 1 twice"},
              {[] { permute(zeros({2, 3}), {0, 2}); }, "permute: dim is 2, expected -2 to 1"}},
             copy_benchmark({128, 65, 3, 3, 64}, [](const Tensors& x) { return permute(x[0], {2, 0, 3, 1, 4}); }));
}

OpRow transpose_row() {
  return row(
      "transpose",
      {moved("last two", {2, 3, 4}, {2, 4, 3}, [](const Tensors& x) { return transpose(x[0]); },
             [](const Dims& i) { return Dims{i[0], i[2], i[1]}; }),
       moved("first and last", {3, 2, 5}, {5, 2, 3}, [](const Tensors& x) { return transpose(x[0], 0, 2); },
             [](const Dims& i) { return Dims{i[2], i[1], i[0]}; }),
       moved("size 1", {1, 5}, {5, 1}, [](const Tensors& x) { return transpose(x[0], 0, 1); },
             [](const Dims& i) { return Dims{i[1], i[0]}; }),
       moved("with itself", {3, 2}, {3, 2}, [](const Tensors& x) { return transpose(x[0], 1, -1); },
             [](const Dims& i) { return i; }),
       moved("empty", {0, 2}, {2, 0}, [](const Tensors& x) { return transpose(x[0]); },
             [](const Dims& i) { return i; })},
      {{[] { transpose(zeros({2, 3}), 0, 2); }, "transpose: dim is 2, expected -2 to 1 for a tensor with 2 dims"},
       {[] { transpose(zeros({3})); }, "transpose: dim is -2, expected -1 to 0"}},
      copy_benchmark({128, 65, 192}, [](const Tensors& x) { return transpose(x[0]); }));
}

OpRow expand_row() {
  return row("expand",
             {moved("a dim of size 1", {3, 1, 2}, {3, 4, 2}, [](const Tensors& x) { return expand(x[0], {3, 4, 2}); },
                    [](const Dims& i) { return Dims{i[0], 0, i[2]}; }),
              moved("new dims", {3}, {2, 5, 3}, [](const Tensors& x) { return expand(x[0], {2, 5, 3}); },
                    [](const Dims& i) { return Dims{i[2]}; }),
              moved("0-d", {}, {3, 2}, [](const Tensors& x) { return expand(x[0], {3, 2}); },
                    [](const Dims&) { return Dims{}; }),
              moved("nothing to do", {3, 2}, {3, 2}, [](const Tensors& x) { return expand(x[0], {3, 2}); },
                    [](const Dims& i) { return i; }),
              moved("to empty", {1, 2}, {0, 2}, [](const Tensors& x) { return expand(x[0], {0, 2}); },
                    [](const Dims& i) { return i; })},
             {{[] { expand(zeros({3, 2}), {4, 2}); }, "expand: shapes (3, 2) and (4, 2) do not broadcast"},
              {[] { expand(zeros({3, 2}), {3, 1}); }, "expand: x (3, 2) cannot become (3, 1)"},
              {[] { expand(zeros({3, 2}), {2}); }, "expand: x (3, 2) cannot become (2)"}},
             copy_benchmark({1, 1, 192}, [](const Tensors& x) { return expand(x[0], {128, 65, 192}); }));
}

OpRow unsqueeze_row() {
  return row("unsqueeze",
             {in_order("front", {3, 4}, {1, 3, 4}, [](const Tensors& x) { return unsqueeze(x[0], 0); }),
              in_order("middle", {3, 4}, {3, 1, 4}, [](const Tensors& x) { return unsqueeze(x[0], 1); }),
              in_order("end", {3, 4}, {3, 4, 1}, [](const Tensors& x) { return unsqueeze(x[0], -1); }),
              in_order("0-d", {}, {1}, [](const Tensors& x) { return unsqueeze(x[0], 0); }),
              in_order("empty", {0}, {1, 0}, [](const Tensors& x) { return unsqueeze(x[0], -2); })},
             {{[] { unsqueeze(zeros({3}), 2); }, "unsqueeze: dim is 2, expected -2 to 1"}},
             copy_benchmark({128, 65, 192}, [](const Tensors& x) { return unsqueeze(x[0], 1); }));
}

OpRow squeeze_row() {
  return row("squeeze",
             {in_order("front", {1, 3, 4}, {3, 4}, [](const Tensors& x) { return squeeze(x[0], 0); }),
              in_order("middle", {3, 1, 4}, {3, 4}, [](const Tensors& x) { return squeeze(x[0], 1); }),
              in_order("to 0-d", {1}, {}, [](const Tensors& x) { return squeeze(x[0], -1); }),
              in_order("empty", {0, 1}, {0}, [](const Tensors& x) { return squeeze(x[0], 1); })},
             {{[] { squeeze(zeros({3, 2}), 1); }, "squeeze: dim 1 of x (3, 2) has size 2, expected 1"},
              {[] { squeeze(zeros({}), 0); }, "squeeze: dim is 0"}},
             copy_benchmark({128, 1, 65, 192}, [](const Tensors& x) { return squeeze(x[0], 1); }));
}

OpRow slice_row() {
  return row("slice",
             {moved("start behind stop", {5, 3}, {5, 0}, [](const Tensors& x) { return slice(x[0], 1, 3, 1); },
                    [](const Dims& i) { return i; }),
              moved("first dim", {5, 3}, {2, 3}, [](const Tensors& x) { return slice(x[0], 0, 2, 4); },
                    [](const Dims& i) { return Dims{i[0] + 2, i[1]}; }),
              moved("with a step", {3, 8}, {3, 3}, [](const Tensors& x) { return slice(x[0], 1, 1, 8, 3); },
                    [](const Dims& i) { return Dims{i[0], 1 + 3 * i[1]}; }),
              moved("from the end", {2, 6, 3}, {2, 3, 3}, [](const Tensors& x) { return slice(x[0], -2, -4, -1); },
                    [](const Dims& i) { return Dims{i[0], i[1] + 2, i[2]}; }),
              moved("step beyond the end", {5}, {1}, [](const Tensors& x) { return slice(x[0], 0, 1, 5, 9); },
                    [](const Dims&) { return Dims{1}; }),
              moved("nothing", {4, 2}, {0, 2}, [](const Tensors& x) { return slice(x[0], 0, 4, 4); },
                    [](const Dims& i) { return i; }),
              moved("of a slice", {9, 7}, {2, 3},
                    [](const Tensors& x) { return slice(slice(slice(x[0], 0, 1, 9, 2), 0, 1, 4, 2), 1, 2, 7, 2); },
                    [](const Dims& i) { return Dims{1 + 2 * (1 + 2 * i[0]), 2 + 2 * i[1]}; })},
             {{[] { slice(zeros({3, 5}), 1, 0, 6); }, "slice: stop is 6, expected -5 to 5 for dim 1 of x (3, 5)"},
              {[] { slice(zeros({3, 5}), 1, -6, 2); }, "slice: start is -6, expected -5 to 5 for dim 1 of x (3, 5)"},
              {[] { slice(zeros({3, 5}), 1, 0, 2, 0); }, "slice: step is 0, expected 1 or more"},
              {[] { slice(zeros({3, 5}), 2, 0, 1); }, "slice: dim is 2, expected -2 to 1"}},
             copy_benchmark({128, 65, 192}, [](const Tensors& x) { return slice(x[0], 1, 1, 65); }));
}

OpRow select_row() {
  return row("select",
             {moved("first dim", {4, 3}, {3}, [](const Tensors& x) { return select(x[0], 0, 2); },
                    [](const Dims& i) { return Dims{2, i[0]}; }),
              moved("middle from the end", {2, 5, 3}, {2, 3}, [](const Tensors& x) { return select(x[0], 1, -2); },
                    [](const Dims& i) { return Dims{i[0], 3, i[1]}; }),
              moved("to 0-d", {3}, {}, [](const Tensors& x) { return select(x[0], 0, 0); },
                    [](const Dims&) { return Dims{0}; })},
             {{[] { select(zeros({3, 5}), 1, 5); }, "select: index is 5, expected -5 to 4 for dim 1 of x (3, 5)"},
              {[] { select(zeros({}), 0, 0); }, "select: dim is 0"}},
             copy_benchmark({128, 65, 192}, [](const Tensors& x) { return select(x[0], 1, 0); }));
}

OpRow split_row() {
  return row("split",
             {moved("one piece", {2, 6}, {2, 2}, [](const Tensors& x) { return split(x[0], 2, 1)[1]; },
                    [](const Dims& i) { return Dims{i[0], i[1] + 2}; }),
              moved("the last, smaller piece", {7, 3}, {1, 3}, [](const Tensors& x) { return split(x[0], 3, 0).at(2); },
                    [](const Dims& i) { return Dims{6, i[1]}; }),
              moved("all pieces, joined backwards", {2, 5}, {2, 5}, [](const Tensors& x) {
                    const std::vector<Tensor> pieces = split(x[0], 2, -1);
                    return concat({pieces.at(2), pieces.at(1), pieces.at(0)}, 1);
                  }, [](const Dims& i) { return Dims{i[0], i[1] == 0 ? 4 : i[1] < 3 ? i[1] + 1 : i[1] - 3}; }),
              moved("size 1", {1, 4}, {1, 4}, [](const Tensors& x) { return split(x[0], 5, 0).at(0); },
                    [](const Dims& i) { return i; })},
             {{[] { split(zeros({3, 5}), 0, 1); }, "split: the size of a piece is 0, expected 1 or more"},
              {[] { split(zeros({3, 5}), 1, 2); }, "split: dim is 2, expected -2 to 1"}},
             copy_benchmark({128, 65, 576}, [](const Tensors& x) { return split(x[0], 192, 2)[1]; }));
}

OpRow contiguous_row() {
  return row("contiguous",
             {in_order("nothing to do", {3, 4}, {3, 4}, [](const Tensors& x) { return contiguous(x[0]); }),
              moved("transposed", {3, 4}, {4, 3}, [](const Tensors& x) { return contiguous(transpose(x[0])); },
                    [](const Dims& i) { return Dims{i[1], i[0]}; }),
              moved("expanded", {3}, {2, 3}, [](const Tensors& x) { return contiguous(expand(x[0], {2, 3})); },
                    [](const Dims& i) { return Dims{i[1]}; }),
              in_order("0-d", {}, {}, [](const Tensors& x) { return contiguous(x[0]); }),
              in_order("empty", {0, 2}, {0, 2}, [](const Tensors& x) { return contiguous(x[0]); })},
             {{[] { contiguous(Tensor()); }, "contiguous: the tensor is undefined"}},
             copy_benchmark({128, 192, 65}, [](const Tensors& x) { return transpose(x[0]); }));
}

OpRow cast_row() {
  const auto to_f64 = [](const Tensors& x) { return cast(x[0], DType::f64); };
  OpCase integers{"from integers", {test_indices({3, 4}, 100, 5)}, to_f64, same_order({3, 4})};
  return row("cast",
             {in_order("to f64", {3, 5}, {3, 5}, to_f64), in_order("0-d", {}, {}, to_f64),
              in_order("empty", {2, 0}, {2, 0}, to_f64), integers},
             {{[] { cast(Tensor(), DType::f32); }, "cast: the tensor is undefined"}}, [] {
               const Tensor x = cast(test_values({128, 65, 192}, 4), DType::f32);
               const double bytes = (4.0 + 2.0) * static_cast<double>(x.numel());
               return OpBenchmark{
                   "(128, 65, 192) to bf16", {x}, [](const Tensors& in) { return cast(in[0], DType::bf16); }, 0, bytes};
             });
}

OpRow to_row() {
  const auto to_cpu = [](const Tensors& x) { return to(x[0], cpu); };
  return row("to",
             {in_order("cpu", {3, 5}, {3, 5}, to_cpu), in_order("0-d", {}, {}, to_cpu),
              in_order("empty", {2, 0}, {2, 0}, to_cpu)},
             {{[] { to(zeros({2}), cuda(cuda_device_count())); }, "to_device: device is cuda:"}},
             copy_benchmark({128, 65, 192}, to_cpu));
}
// clang-format on

}  // namespace

std::vector<OpRow> shape_rows() {
  return {reshape_row(), flatten_row(), permute_row(), transpose_row(),  expand_row(), unsqueeze_row(), squeeze_row(),
          slice_row(),   select_row(),  split_row(),   contiguous_row(), cast_row(),   to_row()};
}

}  // namespace vitrine
