// Shape and strides: up to eight dimensions held in place, and the arithmetic that views and
// broadcasting need.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace vitrine {

inline constexpr int max_dims = 8;

/// A short list of 64-bit integers without an allocation: a shape, the strides of one, or a list of
/// dims.
class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values);
  explicit Dims(std::span<const std::int64_t> values);
  static Dims filled(int count, std::int64_t value);

  int size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::int64_t operator[](int i) const { return values_[static_cast<std::size_t>(i)]; }
  std::int64_t& operator[](int i) { return values_[static_cast<std::size_t>(i)]; }
  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + size_; }
  std::int64_t* begin() { return values_.data(); }
  std::int64_t* end() { return values_.data() + size_; }
  std::int64_t back() const { return values_[static_cast<std::size_t>(size_ - 1)]; }

  void push_back(std::int64_t value);
  void insert(int position, std::int64_t value);
  void erase(int position);

  bool operator==(const Dims& other) const;

 private:
  std::array<std::int64_t, max_dims> values_{};
  int size_ = 0;
};

using Shape = Dims;
using Strides = Dims;

/// "(8, 65, 192)"; a 0-d shape is "()".
std::string to_string(const Dims& dims);

/// Product of the sizes: 1 for a 0-d shape.
std::int64_t element_count(const Shape& shape);

/// Row-major strides, in elements.
Strides contiguous_strides(const Shape& shape);

/// The dim that `dim` names, counting from the end when negative; an error of `op` when out of
/// range.
int normalize_dim(int dim, int dim_count, std::string_view op);

/// The shape that `a` and `b` broadcast to (NumPy's rule); an error of `op` that shows both when
/// they do not.
Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view op);

/// Strides that read a tensor of (shape, strides) as if it had the larger shape `target`: 0 along
/// broadcast dims.
Strides broadcast_strides(const Shape& shape, const Strides& strides, const Shape& target);

}  // namespace vitrine
