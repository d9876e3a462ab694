// Shape ops: views that share the storage of their input, and the conversions of layout, dtype and
// device.
//
// A view changes shape, strides and offset; its gradient is the view undone. All of it holds for
// any device.
#include <algorithm>
#include <optional>

#include "ops/ops.h"
#include "tensor/strided.h"

namespace vitrine {
namespace {

void check_defined(const char* op, const Tensor& x) {
  VT_CHECK(x.defined(), "{}: the tensor is undefined, expected one that was created or returned by an op", op);
}

}  // namespace

// ---- reshape: the same elements in row-major order under another shape; dx = reshape(dy, shape of
// x) ----

namespace {

/// `shape` with its -1, if any, replaced by what is left of x's elements.
Shape resolve_shape(const Tensor& x, Shape shape) {
  int open_dim = -1;
  std::int64_t known = 1;
  for (int d = 0; d < shape.size(); ++d) {
    VT_CHECK(shape[d] >= 0 || (shape[d] == -1 && open_dim < 0),
             "reshape: shape {} for x {}, expected sizes of 0 or more and at most one -1", to_string(shape),
             to_string(x.shape()));
    if (shape[d] == -1)
      open_dim = d;
    else
      known *= shape[d];
  }
  const bool fits = open_dim < 0 ? known == x.numel() : known > 0 && x.numel() % known == 0;
  VT_CHECK(fits, "reshape: shape {} does not fit x {}, expected a shape of {} elements", to_string(shape),
           to_string(x.shape()), x.numel());
  if (open_dim >= 0) shape[open_dim] = x.numel() / known;
  return shape;
}

/// The strides that read x under `shape` without a copy, if there are any: each run of x's dims
/// that memory holds as one must be cut exactly by dims of the new shape.
std::optional<Strides> reshaped_strides(const Tensor& x, const Shape& shape) {
  Strides strides = contiguous_strides(shape);
  if (x.numel() == 0) return strides;
  const auto runs = collapse<1>(x.shape(), {x.strides()});
  int run = runs.dims - 1;
  std::int64_t covered = 1;  // elements of the run that the dims behind d account for
  for (int d = shape.size() - 1; d >= 0; --d) {
    if (shape[d] == 1) continue;
    if (covered == runs.size[run]) {
      --run;
      covered = 1;
    }
    strides[d] = runs.stride[0][run] * covered;
    covered *= shape[d];
    if (runs.size[run] % covered != 0) return std::nullopt;
  }
  return strides;
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  check_defined("reshape", x);
  const Shape wanted = resolve_shape(x, shape);
  const std::optional<Strides> strides = reshaped_strides(x, wanted);
  Tensor y =
      strides ? x.view_as(wanted, *strides, x.offset()) : clone(x).view_as(wanted, contiguous_strides(wanted), 0);
  return record("reshape", y, {x}, [shape = x.shape()](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, reshape(dy, shape));
  });
}

// flatten: (..., a, b, ..., c, ...) -> (..., a b ... c, ...)
Tensor flatten(const Tensor& x, int first, int last) {
  if (x.dim() == 0) return reshape(x, {1});
  first = normalize_dim(first, x.dim(), "flatten");
  last = normalize_dim(last, x.dim(), "flatten");
  VT_CHECK(first <= last, "flatten: first dim {} comes after last dim {} of x {}, expected first <= last", first, last,
           to_string(x.shape()));
  Shape shape;
  for (int d = 0; d < x.dim(); ++d) {
    if (d > first && d <= last)
      shape[first] *= x.shape()[d];
    else
      shape.push_back(x.shape()[d]);
  }
  return reshape(x, shape);
}

// ---- permute: dim d of y is dim order[d] of x; dx = dy, permuted back ----

Tensor permute(const Tensor& x, const Dims& order) {
  check_defined("permute", x);
  VT_CHECK(order.size() == x.dim(), "permute: order {} has {} dims, expected {}, those of x {}", to_string(order),
           order.size(), x.dim(), to_string(x.shape()));
  Shape shape;
  Strides strides;
  Dims inverse = Dims::filled(x.dim(), -1);
  for (int d = 0; d < x.dim(); ++d) {
    const int source = normalize_dim(static_cast<int>(order[d]), x.dim(), "permute");
    VT_CHECK(inverse[source] < 0, "permute: order {} names dim {} twice, expected each dim of x {} once",
             to_string(order), source, to_string(x.shape()));
    inverse[source] = d;
    shape.push_back(x.shape()[source]);
    strides.push_back(x.strides()[source]);
  }
  const Tensor y = x.view_as(shape, strides, x.offset());
  return record("permute", y, {x}, [inverse](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, permute(dy, inverse));
  });
}

// ---- transpose: two dims are exchanged; dx = dy, transposed ----

Tensor transpose(const Tensor& x, int dim0, int dim1) {
  check_defined("transpose", x);
  dim0 = normalize_dim(dim0, x.dim(), "transpose");
  dim1 = normalize_dim(dim1, x.dim(), "transpose");
  Shape shape = x.shape();
  Strides strides = x.strides();
  std::swap(shape[dim0], shape[dim1]);
  std::swap(strides[dim0], strides[dim1]);
  const Tensor y = x.view_as(shape, strides, x.offset());
  return record("transpose", y, {x}, [dim0, dim1](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, transpose(dy, dim0, dim1));
  });
}

// ---- expand: dims of size 1, and new ones in front, are repeated with stride 0; dx = dy summed
// over the repetitions ----

Tensor expand(const Tensor& x, const Shape& shape) {
  check_defined("expand", x);
  VT_CHECK(shape.size() >= x.dim() && broadcast_shapes(x.shape(), shape, "expand") == shape,
           "expand: x {} cannot become {}, expected a shape that x broadcasts to", to_string(x.shape()),
           to_string(shape));
  const Tensor y = x.view_as(shape, broadcast_strides(x.shape(), x.strides(), shape), x.offset());
  return record("expand", y, {x}, [shape = x.shape()](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, sum_to(dy, shape));
  });
}

// ---- unsqueeze, squeeze: a dim of size 1 appears or disappears; dx = the other of the two ----

Tensor unsqueeze(const Tensor& x, int dim) {
  check_defined("unsqueeze", x);
  dim = normalize_dim(dim, x.dim() + 1, "unsqueeze");
  Shape shape = x.shape();
  Strides strides = x.strides();
  strides.insert(dim, dim < x.dim() ? shape[dim] * strides[dim] : 1);
  shape.insert(dim, 1);
  const Tensor y = x.view_as(shape, strides, x.offset());
  return record("unsqueeze", y, {x}, [dim](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, squeeze(dy, dim));
  });
}

Tensor squeeze(const Tensor& x, int dim) {
  check_defined("squeeze", x);
  dim = normalize_dim(dim, x.dim(), "squeeze");
  VT_CHECK(x.shape()[dim] == 1, "squeeze: dim {} of x {} has size {}, expected 1", dim, to_string(x.shape()),
           x.shape()[dim]);
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape.erase(dim);
  strides.erase(dim);
  const Tensor y = x.view_as(shape, strides, x.offset());
  return record("squeeze", y, {x}, [dim](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, unsqueeze(dy, dim));
  });
}

// ---- slice: y[i] = x[start + i step] along dim; dx = dy at these elements, else 0 ----

namespace {

/// Which elements of one dim a slice takes.
struct Range {
  int dim;
  std::int64_t start, stop, step;
};

Tensor slice_view(const Tensor& x, const Range& range) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape[range.dim] = (range.stop - range.start + range.step - 1) / range.step;
  strides[range.dim] *= range.step;
  return x.view_as(shape, strides, x.offset() + range.start * x.strides()[range.dim]);
}

/// The adjoint of slice: y = 0 everywhere but y[start + i step] = x[i]; dx = slice(dy).
Tensor slice_backward(const Tensor& x, const Shape& shape, const Range& range) {
  Tensor y = zeros(shape, x.dtype(), x.device());
  Tensor target = slice_view(y, range);
  copy_into(target, x);
  return record("slice_backward", y, {x}, [range](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, slice(dy, range.dim, range.start, range.stop, range.step));
  });
}

}  // namespace

Tensor slice(const Tensor& x, int dim, std::int64_t start, std::int64_t stop, std::int64_t step) {
  check_defined("slice", x);
  dim = normalize_dim(dim, x.dim(), "slice");
  const std::int64_t size = x.shape()[dim];
  VT_CHECK(step >= 1, "slice: step is {}, expected 1 or more", step);
  const auto position = [&](const char* name, std::int64_t value) {
    VT_CHECK(value >= -size && value <= size, "slice: {} is {}, expected {} to {} for dim {} of x {}", name, value,
             -size, size, dim, to_string(x.shape()));
    return value < 0 ? value + size : value;
  };
  const std::int64_t first = position("start", start);
  const Range range{dim, first, std::max(first, position("stop", stop)), step};
  return record("slice", slice_view(x, range), {x},
                [shape = x.shape(), range](const Tensor& dy, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, slice_backward(dy, shape, range));
                });
}

Tensor select(const Tensor& x, int dim, std::int64_t index) {
  dim = normalize_dim(dim, x.dim(), "select");
  const std::int64_t size = x.shape()[dim];
  VT_CHECK(index >= -size && index < size, "select: index is {}, expected {} to {} for dim {} of x {}", index, -size,
           size - 1, dim, to_string(x.shape()));
  if (index < 0) index += size;
  return squeeze(slice(x, dim, index, index + 1), dim);
}

std::vector<Tensor> split(const Tensor& x, std::int64_t size, int dim) {
  dim = normalize_dim(dim, x.dim(), "split");
  VT_CHECK(size >= 1, "split: the size of a piece is {}, expected 1 or more", size);
  const std::int64_t total = x.shape()[dim];
  std::vector<Tensor> pieces;
  for (std::int64_t start = 0; start == 0 || start < total; start += size) {
    pieces.push_back(slice(x, dim, start, std::min(start + size, total)));
  }
  return pieces;
}

// ---- contiguous, cast, to: the same values in another layout, dtype or device memory; x itself
// where nothing changes ----

Tensor contiguous(const Tensor& x) {
  check_defined("contiguous", x);
  if (x.is_contiguous()) return x;
  return record("contiguous", clone(x), {x}, [](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, dy);
  });
}

Tensor cast(const Tensor& x, DType dtype) {
  check_defined("cast", x);
  if (x.dtype() == dtype) return x;
  const Tensor y = cast_data(x, dtype);
  if (!is_floating(x.dtype()) || !is_floating(dtype)) return y;
  return record("cast", y, {x}, [from = x.dtype()](const Tensor& dy, BackwardContext& context) {
    if (!context.wants(0)) return;
    is_recording({&dy}) ? context.add(0, cast(dy, from)) : context.add_in_compute_dtype(0, dy);
  });
}

Tensor to(const Tensor& x, Device device) {
  check_defined("to", x);
  if (x.device() == device) return x;
  return record("to", to_device(x, device), {x}, [from = x.device()](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, to(dy, from));
  });
}

}  // namespace vitrine
