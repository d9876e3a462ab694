// Collects the rows of all op families, and makes the data that they are tested with.
#include "op_table/op_table.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace vitrine {

std::vector<OpRow> binary_rows();
std::vector<OpRow> unary_rows();
std::vector<OpRow> gelu_rows();
std::vector<OpRow> reduction_rows();
std::vector<OpRow> softmax_rows();
std::vector<OpRow> layer_norm_rows();
std::vector<OpRow> matmul_rows();
std::vector<OpRow> linear_rows();
std::vector<OpRow> attention_rows();
std::vector<OpRow> cross_entropy_rows();
std::vector<OpRow> dropout_rows();
std::vector<OpRow> shape_rows();
std::vector<OpRow> join_rows();
std::vector<OpRow> index_rows();
std::vector<OpRow> window_rows();
std::vector<OpRow> conv_rows();
std::vector<OpRow> norm_rows();
std::vector<OpRow> pool_rows();
std::vector<OpRow> interpolate_rows();

const std::vector<OpRow>& op_table() {
  static const std::vector<OpRow> table = [] {
    std::vector<OpRow> rows;
    for (auto* family : {binary_rows, unary_rows, gelu_rows, reduction_rows, softmax_rows, layer_norm_rows, matmul_rows,
                         linear_rows, attention_rows, cross_entropy_rows, dropout_rows, shape_rows, join_rows,
                         index_rows, window_rows, conv_rows, norm_rows, pool_rows, interpolate_rows}) {
      std::ranges::move(family(), std::back_inserter(rows));
    }
    return rows;
  }();
  return table;
}

Tensor test_values(const Shape& shape, std::uint64_t stream, double low, double high,
                   std::initializer_list<double> avoid) {
  RandomSequence random(20201022, Purpose::test, stream);
  Tensor result = empty(shape, DType::f64);
  const auto near_kink = [&](double value) {
    return std::ranges::any_of(avoid, [&](double kink) { return std::abs(value - kink) < 1e-2; });
  };
  for (std::int64_t i = 0; i < result.numel(); ++i) {
    double value = random.uniform(low, high);
    while (near_kink(value)) value = random.uniform(low, high);
    result.data<double>()[i] = value;
  }
  return result;
}

Tensor test_indices(const Shape& shape, std::int64_t below, std::uint64_t stream, DType dtype) {
  RandomSequence random(20201022, Purpose::test, stream);
  Tensor result = empty(shape, DType::i64);
  for (std::int64_t i = 0; i < result.numel(); ++i) result.data<std::int64_t>()[i] = random.integer(below);
  return cast_data(result, dtype);
}

void for_each_index(const Shape& shape, const std::function<void(const Dims&, std::int64_t)>& body) {
  Dims index = Dims::filled(shape.size(), 0);
  for (std::int64_t position = 0; position < element_count(shape); ++position) {
    body(index, position);
    for (int d = shape.size() - 1; d >= 0 && ++index[d] == shape[d]; --d) index[d] = 0;
  }
}

double value_at(const Tensor& x, const Dims& index) {
  std::int64_t offset = x.offset();
  const int lead = index.size() - x.dim();
  for (int d = 0; d < x.dim(); ++d) offset += (x.size(d) == 1 ? 0 : index[lead + d]) * x.strides()[d];
  return x.view_as({}, {}, offset).item();
}

}  // namespace vitrine
