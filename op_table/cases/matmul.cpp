// The row of matmul.
#include "op_table/op_table.h"

namespace vitrine {
namespace {

Tensor matmul_naively(const Tensor& a, const Tensor& b) {
  Shape shape;
  const int dims = std::max(a.dim(), b.dim());
  for (int d = -dims; d < -2; ++d) {
    const std::int64_t left = -d <= a.dim() ? a.size(d) : 1, right = -d <= b.dim() ? b.size(d) : 1;
    shape.push_back(left == 1 ? right : left);
  }
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  Tensor y = empty(shape, DType::f64);
  for_each_index(shape, [&](const Dims& index, std::int64_t position) {
    double total = 0;
    for (std::int64_t k = 0; k < a.size(-1); ++k) {
      // An operand with fewer batch dims is read at the last of them; the sizes 1 broadcast by
      // themselves.
      Dims left = index, right = index;
      left[dims - 1] = k;
      right[dims - 2] = k;
      total += value_at(a, left) * value_at(b, right);
    }
    y.data<double>()[position] = total;
  });
  return y;
}

OpCase product(const std::string& name, const Shape& a, const Shape& b) {
  return {name,
          {test_values(a, 1), test_values(b, 2)},
          [](const Tensors& in) { return matmul(in[0], in[1]); },
          [](const Tensors& in) { return matmul_naively(in[0], in[1]); }};
}

std::vector<OpCase> matmul_cases() {
  std::vector<OpCase> cases{product("matrices", {3, 4}, {4, 5}),
                            product("square", {3, 3}, {3, 3}),
                            product("a row and a column", {1, 5}, {5, 1}),
                            product("a column and a row", {3, 1}, {1, 2}),
                            product("batches", {2, 3, 2}, {2, 2, 3}),
                            product("one matrix for a batch", {2, 2, 3}, {3, 2}),
                            product("a batch for one matrix", {2, 3}, {3, 3, 2}),
                            product("broadcast batches", {2, 1, 2, 2}, {3, 2, 2}),
                            product("no rows", {0, 3}, {3, 2}),
                            product("nothing to sum", {2, 0}, {0, 3})};
  cases.push_back({"second operand transposed",
                   {test_values({3, 4}, 3), test_values({5, 4}, 4)},
                   [](const Tensors& in) { return matmul(in[0], transpose(in[1])); },
                   [](const Tensors& in) {
                     return matmul_naively(
                         in[0], in[1].view_as({in[1].size(1), in[1].size(0)}, {in[1].strides()[1], in[1].strides()[0]},
                                              in[1].offset()));
                   }});
  return cases;
}

}  // namespace

std::vector<OpRow> matmul_rows() {
  return {{.op = "matmul",
           .cases = matmul_cases,
           .f32_tolerance = 4e-6,
           .errors = {{[] {
                         matmul(zeros({2, 3}), zeros({2, 3}));
                       },
                       "matmul: a is (2, 3) and b is (2, 3), expected the last dim of a = the second to last of b"},
                      {[] {
                         matmul(zeros({3}), zeros({3, 2}));
                       },
                       "matmul: a is (3) and b is (3, 2), expected at least 2 dims"},
                      {[] {
                         matmul(zeros({2, 2, 3}), zeros({3, 3, 2}));
                       },
                       "matmul: shapes (2) and (3) do not broadcast"},
                      {[] {
                         matmul(zeros({2, 3}), zeros({3, 2}, DType::f64));
                       },
                       "matmul: a is f32 and b is f64, expected one of f32, f64, bf16"}},
           .benchmark = [] {
             return OpBenchmark{"(8320, 192) (192, 768)",
                                {cast_data(test_values({8320, 192}, 1), DType::f32),
                                 cast_data(test_values({192, 768}, 2), DType::f32)},
                                [](const Tensors& in) { return matmul(in[0], in[1]); },
                                2.0 * 8320 * 192 * 768,
                                4.0 * (8320 * 192 + 192 * 768 + 8320 * 768)};
           }}};
}

}  // namespace vitrine
