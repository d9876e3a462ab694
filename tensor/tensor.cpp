// Creation and inspection of tensors.
#include "tensor/tensor.h"

#include <algorithm>

namespace vitrine {

Tensor::Tensor(std::shared_ptr<Storage> storage, Shape shape, Strides strides, std::int64_t offset, DType dtype)
    : storage_(std::move(storage)), shape_(shape), strides_(strides), offset_(offset), dtype_(dtype) {}

std::int64_t Tensor::size(int dim) const { return shape_[normalize_dim(dim, shape_.size(), "size")]; }

bool Tensor::is_contiguous() const {
  std::int64_t expected = 1;
  for (int d = dim() - 1; d >= 0; --d) {
    if (shape_[d] == 0) return true;
    if (shape_[d] != 1 && strides_[d] != expected) return false;
    expected *= shape_[d];
  }
  return true;
}

void* Tensor::raw_data() const {
  VT_CHECK(defined(), "data: the tensor is undefined, expected one that was created or returned by an op");
  return static_cast<std::byte*>(storage_->data()) + offset_ * static_cast<std::int64_t>(size_of(dtype_));
}

void* Tensor::checked_data(DType wanted) const {
  VT_CHECK(wanted == dtype_, "data: asked for {}, expected {}, the dtype of the tensor {}", name_of(wanted),
           name_of(dtype_), to_string(shape_));
  return raw_data();
}

double Tensor::item() const {
  VT_CHECK(defined() && numel() == 1, "item: the tensor has shape {}, expected one element", to_string(shape_));
  const Tensor on_cpu = to_device(*this, cpu);
  return dispatch_all(dtype_, "item", [&](auto tag) {
    using T = typename decltype(tag)::type;
    return static_cast<double>(static_cast<Compute<T>>(*on_cpu.data<T>()));
  });
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const Tensor flat = contiguous_data(to_device(*this, cpu));
  const T* begin = flat.data<T>();
  return std::vector<T>(begin, begin + flat.numel());
}

Tensor Tensor::view_as(Shape shape, Strides strides, std::int64_t offset) const {
  return Tensor(storage_, shape, strides, offset, dtype_);
}

Tensor Tensor::detach() const { return view_as(shape_, strides_, offset_); }

Tensor empty(const Shape& shape, DType dtype, Device device) {
  for (const std::int64_t size : shape) {
    VT_CHECK(size >= 0, "empty: shape {} has a negative size, expected sizes of 0 or more", to_string(shape));
  }
  const auto bytes = static_cast<std::size_t>(element_count(shape)) * size_of(dtype);
  return Tensor(std::make_shared<Storage>(bytes, device), shape, contiguous_strides(shape), 0, dtype);
}

Tensor empty_for(std::string_view op, const Shape& shape, DType dtype, Device device) {
  return in_op(op, [&] { return empty(shape, dtype, device); });
}

Tensor full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor result = empty(shape, dtype, device);
  fill(result, value);
  return result;
}

Tensor zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0, dtype, device); }
Tensor ones(const Shape& shape, DType dtype, Device device) { return full(shape, 1, dtype, device); }
Tensor empty_like(const Tensor& x) { return empty(x.shape(), x.dtype(), x.device()); }
Tensor zeros_like(const Tensor& x) { return zeros(x.shape(), x.dtype(), x.device()); }

Tensor arange(std::int64_t count, DType dtype, Device device) {
  Tensor result = empty({count}, DType::i64);
  for (std::int64_t i = 0; i < count; ++i) result.data<std::int64_t>()[i] = i;
  return to_device(cast_data(result, dtype), device);
}

template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape) {
  VT_CHECK(static_cast<std::int64_t>(values.size()) == element_count(shape),
           "from_span: {} values do not fill shape {}, expected {}", values.size(), to_string(shape),
           element_count(shape));
  Tensor result = empty(shape, dtype_of<T>());
  std::copy(values.begin(), values.end(), result.data<T>());
  return result;
}

Tensor clone(const Tensor& x) {
  Tensor result = empty_like(x);
  copy_into(result, x);
  return result;
}

Tensor contiguous_data(const Tensor& x) { return x.is_contiguous() ? x.detach() : clone(x); }

Tensor cast_data(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x.detach();
  Tensor result = empty(x.shape(), dtype, x.device());
  copy_into(result, x);
  return result;
}

Tensor to_device(const Tensor& x, Device device) {
  if (x.device() == device) return x.detach();
  VT_CHECK(device.is_cpu() || device.index < cuda_device_count(),
           "to_device: device is {}, expected one of the {} CUDA devices that can be used here, or cpu",
           to_string(device), cuda_device_count());
  Tensor result = empty(x.shape(), x.dtype(), device);
  copy_into(result, x);
  return result;
}

// clang-format off
template Tensor from_span(std::span<const float>, const Shape&);
template Tensor from_span(std::span<const double>, const Shape&);
template Tensor from_span(std::span<const bfloat16>, const Shape&);
template Tensor from_span(std::span<const std::int32_t>, const Shape&);
template Tensor from_span(std::span<const std::int64_t>, const Shape&);
template Tensor from_span(std::span<const std::uint8_t>, const Shape&);
template Tensor from_span(std::span<const bool>, const Shape&);
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<bfloat16> Tensor::to_vector() const;
template std::vector<std::int32_t> Tensor::to_vector() const;
template std::vector<std::int64_t> Tensor::to_vector() const;
template std::vector<std::uint8_t> Tensor::to_vector() const;
// clang-format on

}  // namespace vitrine
