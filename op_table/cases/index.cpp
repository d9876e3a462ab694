// Rows of the ops that look up by index: gather, index_select, embedding, one_hot.
#include "op_table/moves.h"

namespace vitrine {
namespace {

std::int64_t index_at(const Tensor& index, const Dims& place) {
  return static_cast<std::int64_t>(value_at(index, place));
}

/// x (of `from`) gathered along dim by indices of shape `index`, which repeat.
OpCase gathered(const char* name, const Shape& from, int dim, const Shape& index, DType dtype = DType::i64) {
  const int d = dim < 0 ? dim + from.size() : dim;
  return {name,
          {test_values(from, 1), test_indices(index, from[d], 2, dtype)},
          [dim](const Tensors& x) { return gather(x[0], dim, x[1]); },
          [d](const Tensors& x) {
            return from_elements(x[1].shape(), [&](Dims place) {
              place[d] = index_at(x[1], place);
              return value_at(x[0], place);
            });
          }};
}

OpCase selected(const char* name, const Shape& from, int dim, std::int64_t count, DType dtype = DType::i64) {
  const int d = dim < 0 ? dim + from.size() : dim;
  return {name,
          {test_values(from, 3), test_indices({count}, from[d], 4, dtype)},
          [dim](const Tensors& x) { return index_select(x[0], dim, x[1]); },
          [d](const Tensors& x) {
            Shape shape = x[0].shape();
            shape[d] = x[1].numel();
            return from_elements(shape, [&](Dims place) {
              place[d] = index_at(x[1], {place[d]});
              return value_at(x[0], place);
            });
          }};
}

OpCase embedded(const char* name, const Shape& weight, const Shape& index, DType dtype = DType::i64) {
  return {name,
          {test_values(weight, 5), test_indices(index, weight[0], 6, dtype)},
          [](const Tensors& x) { return embedding(x[0], x[1]); },
          [](const Tensors& x) {
            Shape shape = x[1].shape();
            shape.push_back(x[0].size(1));
            return from_elements(shape, [&](Dims place) {
              const std::int64_t column = place.back();
              place.erase(place.size() - 1);
              return value_at(x[0], {index_at(x[1], place), column});
            });
          }};
}

OpCase one_of(const char* name, const Shape& index, std::int64_t classes, DType dtype = DType::i64) {
  return {name,
          {test_indices(index, classes, 7, dtype)},
          [classes](const Tensors& x) { return one_hot(x[0], classes, DType::f64); },
          [classes](const Tensors& x) {
            Shape shape = x[0].shape();
            shape.push_back(classes);
            return from_elements(shape, [&](Dims place) {
              const std::int64_t column = place.back();
              place.erase(place.size() - 1);
              return index_at(x[0], place) == column ? 1.0 : 0.0;
            });
          }};
}

/// x in f32 and indices below the size of its dim `dim`; as many elements are read as written, and
/// the indices.
std::function<OpBenchmark()> look_up(const Shape& from, int dim, const Shape& index, const Call& call) {
  return [=] {
    const Tensors x{cast(test_values(from, 8), DType::f32), test_indices(index, from[dim], 9)};
    const double bytes = 8.0 * static_cast<double>(call(x).numel() + x[1].numel());
    return OpBenchmark{to_string(from) + " at " + to_string(index), x, call, 0, bytes};
  };
}

Tensor indices(std::initializer_list<std::int64_t> values, const Shape& shape) { return from_values(values, shape); }

// One case, one error per line; the formatter would spread each lambda over three.
// clang-format off
OpRow gather_row() {
  return row("gather",
             {gathered("last dim", {3, 5}, 1, {3, 4}), gathered("first dim", {4, 3}, 0, {6, 3}),
              gathered("middle dim, i32", {2, 4, 3}, -2, {2, 5, 3}, DType::i32),
              gathered("index smaller", {4, 5}, 1, {2, 3}), gathered("one dim", {7}, 0, {3}),
              gathered("size 1", {1, 3}, 0, {4, 3}), gathered("empty index", {3, 2}, 0, {0, 2})},
             {{[] { gather(zeros({2, 5}), 1, indices({0, 1, 2, 5}, {2, 2})); },
               "gather: index is 5 at (1, 1), expected 0 <= index < 5 = size of dim 1 of x (2, 5)"},
              {[] { gather(zeros({2, 5}), 1, indices({0, -1}, {2, 1})); }, "gather: index is -1 at (1, 0)"},
              {[] { gather(zeros({2, 5}), 1, indices({0, 1}, {2})); },
               "gather: index has shape (2), expected 2 dims like x (2, 5)"},
              {[] { gather(zeros({2, 5}), 1, indices({0, 1, 2}, {3, 1})); }, "none larger than x's but dim 1"},
              {[] { gather(zeros({2, 5}), 1, zeros({2, 1})); }, "gather: index dtype is f32, expected i32 or i64"}},
             look_up({128, 65, 192}, 1, {128, 16, 192}, [](const Tensors& x) { return gather(x[0], 1, x[1]); }));
}

OpRow index_select_row() {
  return row("index_select",
             {selected("rows", {4, 3}, 0, 6), selected("columns", {3, 5}, -1, 4),
              selected("middle dim, i32", {2, 3, 4}, 1, 5, DType::i32), selected("one dim", {6}, 0, 3),
              selected("nothing", {3, 2}, 0, 0), selected("wide rows", {3, 70}, 0, 4)},
             {{[] { index_select(zeros({4, 3}), 0, indices({0, 4}, {2})); },
               "index_select: index is 4 at (1), expected 0 <= index < 4 = size of dim 0 of x (4, 3)"},
              {[] { index_select(zeros({4, 3}), 0, indices({0, 1}, {1, 2})); },
               "index_select: index has shape (1, 2), expected one dim"},
              {[] { index_select(zeros({4}), 0, zeros({1})); }, "index_select: index dtype is f32"}},
             look_up({8192, 192}, 0, {8192}, [](const Tensors& x) { return index_select(x[0], 0, x[1]); }));
}

OpRow embedding_row() {
  return row(
      "embedding",
      {embedded("two dims", {7, 3}, {2, 4}), embedded("one dim, i32", {5, 4}, {6}, DType::i32),
       embedded("0-d index", {4, 3}, {}), embedded("one row", {1, 5}, {3}), embedded("empty index", {4, 2}, {0, 3})},
      {{[] { embedding(zeros({4, 3}), indices({0, 1, 2, 4}, {2, 2})); },
        "embedding: index is 4 at (1, 1), expected 0 <= index < 4 = size of dim 0 of weight (4, 3)"},
       {[] { embedding(zeros({4}), indices({0}, {1})); }, "embedding: weight has shape (4), expected (V, D)"},
       {[] { embedding(zeros({4, 3}), zeros({2})); }, "embedding: index dtype is f32, expected i32 or i64"}},
      look_up({1000, 192}, 0, {128, 65}, [](const Tensors& x) { return embedding(x[0], x[1]); }));
}

OpRow one_hot_row() {
  OpRow result = row(
      "one_hot",
      {one_of("one dim", {5}, 4), one_of("two dims, i32", {2, 3}, 5, DType::i32), one_of("0-d", {}, 3),
       one_of("one class", {3}, 1), one_of("empty", {0}, 3)},
      {{[] { one_hot(indices({0, 3}, {2}), 3); }, "one_hot: index is 3 at (1), expected 0 <= index < 3 = classes"},
       {[] { one_hot(indices({0}, {1}), 0); }, "one_hot: classes is 0, expected 1 or more"},
       {[] { one_hot(zeros({1}), 3); }, "one_hot: index dtype is f32, expected i32 or i64"}},
      [] {
        const Tensor index = test_indices({8192}, 1000, 9);
        const double bytes = 8.0 * 8192 + 4.0 * 8192 * 1000;
        return OpBenchmark{"(8192) of 1000", {index}, [](const Tensors& x) { return one_hot(x[0], 1000); }, 0, bytes};
      });
  result.differentiable = false;
  return result;
}
// clang-format on

}  // namespace

std::vector<OpRow> index_rows() { return {gather_row(), index_select_row(), embedding_row(), one_hot_row()}; }

}  // namespace vitrine
