// Collects the rows of all op families, and makes the data that they are tested with.
#include "op_table/op_table.h"

#include <op_families.h>  // made by CMake: the functions that give each family's rows
#include <algorithm>
#include <cmath>
#include <iterator>

namespace vitrine {

const std::vector<OpRow>& op_table() {
  static const std::vector<OpRow> table = [] {
    std::vector<OpRow> rows;
    for (auto* family : op_families) {
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

double relative_distance(const Tensor& a, const Tensor& b) {
  VT_CHECK(a.shape() == b.shape(), "the result has shape {}, expected {}", to_string(a.shape()), to_string(b.shape()));
  const auto left = cast_data(to_device(a, cpu), DType::f64).to_vector<double>();
  const auto right = cast_data(to_device(b, cpu), DType::f64).to_vector<double>();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    difference += (left[i] - right[i]) * (left[i] - right[i]);
    size += right[i] * right[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

double value_at(const Tensor& x, const Dims& index) {
  std::int64_t offset = x.offset();
  const int lead = index.size() - x.dim();
  for (int d = 0; d < x.dim(); ++d) offset += (x.size(d) == 1 ? 0 : index[lead + d]) * x.strides()[d];
  return x.view_as({}, {}, offset).item();
}

}  // namespace vitrine
