// Arithmetic on shapes and strides.
#include "tensor/shape.h"

#include <algorithm>

#include "tensor/error.h"

namespace vitrine {

Dims::Dims(std::initializer_list<std::int64_t> values)
    : Dims(std::span<const std::int64_t>(values.begin(), values.size())) {}

Dims::Dims(std::span<const std::int64_t> values) {
  for (const std::int64_t value : values) push_back(value);
}

Dims Dims::filled(int count, std::int64_t value) {
  Dims dims;
  for (int i = 0; i < count; ++i) dims.push_back(value);
  return dims;
}

void Dims::push_back(std::int64_t value) { insert(size_, value); }

void Dims::insert(int position, std::int64_t value) {
  VT_CHECK(size_ < max_dims, "shape: a tensor has at most {} dims", max_dims);
  std::move_backward(begin() + position, end(), end() + 1);
  values_[static_cast<std::size_t>(position)] = value;
  ++size_;
}

void Dims::erase(int position) {
  std::move(begin() + position + 1, end(), begin() + position);
  --size_;
}

bool Dims::operator==(const Dims& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

std::string to_string(const Dims& dims) {
  std::string text = "(";
  for (int i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + ")";
}

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = Dims::filled(shape.size(), 1);
  for (int d = shape.size() - 2; d >= 0; --d) strides[d] = strides[d + 1] * shape[d + 1];
  return strides;
}

int normalize_dim(int dim, int dim_count, std::string_view op) {
  VT_CHECK(dim >= -dim_count && dim < dim_count, "{}: dim is {}, expected {} to {} for a tensor with {} dims", op, dim,
           -dim_count, dim_count - 1, dim_count);
  return dim < 0 ? dim + dim_count : dim;
}

Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view op) {
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape result = longer;
  const int lead = longer.size() - shorter.size();
  for (int d = 0; d < shorter.size(); ++d) {
    const std::int64_t x = longer[lead + d], y = shorter[d];
    VT_CHECK(x == y || x == 1 || y == 1,
             "{}: shapes {} and {} do not broadcast: sizes {} and {} differ, expected equal sizes or 1", op,
             to_string(a), to_string(b), x, y);
    result[lead + d] = x == 1 ? y : x;
  }
  return result;
}

Strides broadcast_strides(const Shape& shape, const Strides& strides, const Shape& target) {
  Strides result = Dims::filled(target.size(), 0);
  const int lead = target.size() - shape.size();
  for (int d = 0; d < shape.size(); ++d) result[lead + d] = shape[d] == 1 ? 0 : strides[d];
  return result;
}

}  // namespace vitrine
