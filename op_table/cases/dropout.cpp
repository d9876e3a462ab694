// Rows of dropout and drop path. The references ask the generator for one number at a time.
#include "op_table/pointwise.h"

namespace vitrine {
namespace {

constexpr Random source{.seed = 11, .purpose = Purpose::dropout, .stream = 3};

/// y = x m / (1 - p), where element `position` at `index` uses random number number(index,
/// position).
Call masked(double probability, std::int64_t (*number)(const Dims& index, std::int64_t position)) {
  return [=](const Tensors& x) {
    Tensor y = empty(x[0].shape(), DType::f64);
    for_each_index(x[0].shape(), [&](const Dims& index, std::int64_t position) {
      const bool kept = source.uniform(static_cast<std::uint64_t>(number(index, position))) >= probability;
      y.data<double>()[position] = kept ? value_at(x[0], index) / (1 - probability) : 0;
    });
    return y;
  };
}

using NoiseOp = Tensor (*)(const Tensor&, double, Random);

OpRow noise_row(const char* name, NoiseOp op, const std::vector<Shape>& shapes,
                std::int64_t (*number)(const Dims&, std::int64_t)) {
  OpRow row;
  row.op = name;
  row.cases = [=] {
    std::vector<OpCase> cases;
    for (const double probability : {0.0, 0.1, 0.5, 0.9}) {
      for (const Shape& shape : shapes) {
        cases.push_back({fmt::format("p = {}, {}", probability, to_string(shape)),
                         {test_values(shape, 1)},
                         [=](const Tensors& x) { return op(x[0], probability, source); },
                         masked(probability, number)});
      }
    }
    return cases;
  };
  const std::string prefix = std::string(name) + ": ";
  row.errors = {{[=] { op(zeros({2}), 1, source); }, prefix + "probability is 1, expected 0 <= probability < 1"},
                {[=] { op(zeros({2}), -0.5, source); }, prefix + "probability is -0.5"},
                {[=] { op(zeros({2}, DType::i32), 0.5, source); }, prefix + "dtype of x (2) is i32, expected f32"}};
  row.benchmark = pointwise_benchmark({128, 65, 192}, 1, [=](const Tensors& x) { return op(x[0], 0.1, source); });
  return row;
}

}  // namespace

std::vector<OpRow> dropout_rows() {
  OpRow dropout_row = noise_row("dropout", dropout, {{13}, {3, 5}, {2, 3, 4}, {1, 1}, {}, {0, 2}},
                                [](const Dims&, std::int64_t position) { return position; });
  OpRow drop_path_row = noise_row("drop_path", drop_path, {{5}, {6, 2}, {4, 2, 3}, {1, 3}, {5, 8}, {0, 2}},
                                  [](const Dims& index, std::int64_t) { return index[0]; });
  drop_path_row.errors.push_back({[] { drop_path(zeros({}), 0.5, source); }, "drop_path: x is 0-d"});
  return {dropout_row, drop_path_row};
}

}  // namespace vitrine
