// Tensor: a shared block of memory seen through a shape, strides, an offset and a dtype.
//
//   Tensor x = zeros({8, 65, 192});              // (B, N, D) f32 on the CPU
//   Tensor y = from_values<float>({1, 2, 3}, {3});
//   x.size(-1) == 192;  y.to_vector<float>();  y.item() is for one element
//
// A Tensor is a handle: copying it copies a pointer, never the elements. Views share storage.
// Differentiable operations live in ops/ops.h; here are only creation, inspection, raw views, fill,
// copy and add-in-place.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tensor/device/device.h"
#include "tensor/device/storage.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace vitrine {

/// Which node of which tape made a tensor. Only the tape reads and writes it.
struct Trace {
  std::uint64_t tape = 0;  // serial number of the tape; 0 = none
  std::int64_t node = -1;
};

class Tensor {
 public:
  /// An undefined tensor: no storage, shape () and defined() == false.
  Tensor() = default;
  Tensor(std::shared_ptr<Storage> storage, Shape shape, Strides strides, std::int64_t offset, DType dtype);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  const Strides& strides() const { return strides_; }  // in elements
  std::int64_t offset() const { return offset_; }      // in elements from the start of the storage
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : cpu; }
  int dim() const { return shape_.size(); }
  std::int64_t size(int dim) const;  // negative dims count from the end
  std::int64_t numel() const { return element_count(shape_); }
  bool is_contiguous() const;
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  /// Pointer to element (0, 0, ...). T must be the dtype's C++ type. The non-const form is for
  /// writing into a tensor that was just created; writes into a tensor that others may have saved
  /// go through the in-place functions below.
  template <class T>
  T* data() {
    return static_cast<T*>(checked_data(dtype_of<T>()));
  }
  template <class T>
  const T* data() const {
    return static_cast<const T*>(checked_data(dtype_of<T>()));
  }
  void* raw_data() const;  // the same without a type

  /// The only element of a one-element tensor, as a double.
  double item() const;

  /// All elements in row-major order, whatever the strides and the device. T must be the dtype's
  /// C++ type (std::vector<bool> aside: read booleans as to_vector<std::uint8_t> after a cast).
  template <class T>
  std::vector<T> to_vector() const;

  /// The same storage through another shape, strides and offset. The caller guarantees that all of
  /// it lies inside.
  Tensor view_as(Shape shape, Strides strides, std::int64_t offset) const;

  /// Without a trace: a constant to every tape.
  Tensor detach() const;

  const Trace& trace() const { return trace_; }
  void set_trace(Trace trace) { trace_ = trace; }

 private:
  void* checked_data(DType wanted) const;

  std::shared_ptr<Storage> storage_;
  Shape shape_;
  Strides strides_;
  std::int64_t offset_ = 0;
  DType dtype_ = DType::f32;
  Trace trace_;
};

// ---- Creation ----

Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = cpu);  // uninitialised
/// The same for a result of `op`, which the error names where memory runs out.
Tensor empty_for(std::string_view op, const Shape& shape, DType dtype, Device device);
Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = cpu);
Tensor ones(const Shape& shape, DType dtype = DType::f32, Device device = cpu);
Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = cpu);
Tensor arange(std::int64_t count, DType dtype = DType::i64, Device device = cpu);  // 0, 1, ..., count - 1
Tensor empty_like(const Tensor& x);
Tensor zeros_like(const Tensor& x);

/// Copies `values` (row-major) into a new CPU tensor of T's dtype; their number must fit the shape.
template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape);
template <class T>
Tensor from_values(std::initializer_list<T> values, const Shape& shape) {
  return from_span(std::span<const T>(values.begin(), values.size()), shape);
}
template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape) {
  return from_span(std::span<const T>(values), shape);
}

// ---- Raw memory operations: no trace, no broadcasting but that of strides ----

/// Copies `source` into `target`, element by element, converting the dtype. Same shape required;
/// any strides, any devices. Rounds to nearest even towards bf16, truncates towards zero from
/// floating to integer, and x != 0 towards bool.
void copy_into(Tensor& target, const Tensor& source);
void fill(Tensor& target, double value);
/// target += source. Same shape and dtype.
void add_into(Tensor& target, const Tensor& source);
/// Many copies or additions with conversion, targets[i] (+)= sources[i]. On a GPU the row-major
/// ones take one kernel for each dtype of the sources, which is that of the targets or bf16: a
/// small copy takes longer to launch than to run.
void copy_all_into(std::span<Tensor> targets, std::span<const Tensor> sources);
void add_all_into(std::span<Tensor> targets, std::span<const Tensor> sources);
/// targets[i] = keep targets[i] + take sources[i]. Row-major targets of one dtype, f32 or f64, on
/// one device.
void blend_all_into(std::span<Tensor> targets, double keep, std::span<const Tensor> sources, double take);

/// A new row-major tensor with the same elements (always copies).
Tensor clone(const Tensor& x);
/// x itself where it is row-major already, else a row-major copy. Keeps no trace: ops record what
/// they do.
Tensor contiguous_data(const Tensor& x);
/// Copy with another dtype or on another device; x itself where nothing changes.
Tensor cast_data(const Tensor& x, DType dtype);
Tensor to_device(const Tensor& x, Device device);

}  // namespace vitrine
