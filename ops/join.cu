// Joining and moving: concat, stack, flip, roll and pad. Each makes a new tensor and copies its
// input, or parts of it, into views of that; so they run wherever copy_into runs.
#include <array>

#include "ops/ops.h"

namespace vitrine {

// ---- concat: parts one behind the other along dim; dpart = the slice of dy that the part became
// ----

namespace {

/// The shape of all parts joined along `dim`.
Shape joined_shape(const std::vector<Tensor>& parts, int dim) {
  const Tensor& first = parts.front();
  Shape shape = first.shape();
  shape[dim] = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Tensor& part = parts[i];
    VT_CHECK(part.dtype() == first.dtype(), "concat: part {} is {}, expected {} like part 0", i, name_of(part.dtype()),
             name_of(first.dtype()));
    VT_CHECK(part.device() == first.device(), "concat: part {} is on {}, expected {} like part 0", i,
             to_string(part.device()), to_string(first.device()));
    Shape expected = first.shape();
    if (part.dim() == first.dim()) expected[dim] = part.shape()[dim];
    VT_CHECK(part.shape() == expected, "concat: part {} has shape {}, expected that of part 0, {}, but for dim {}", i,
             to_string(part.shape()), to_string(first.shape()), dim);
    shape[dim] += part.shape()[dim];
  }
  return shape;
}

}  // namespace

Tensor concat(const std::vector<Tensor>& parts, int dim) {
  VT_CHECK(!parts.empty(), "concat: there are no parts, expected one or more");
  dim = normalize_dim(dim, parts.front().dim(), "concat");
  Tensor y = empty_for("concat", joined_shape(parts, dim), parts.front().dtype(), parts.front().device());
  std::vector<std::int64_t> sizes;
  std::int64_t start = 0;
  for (const Tensor& part : parts) {
    sizes.push_back(part.shape()[dim]);
    Tensor target = slice(y, dim, start, start + sizes.back());
    copy_into(target, part);
    start += sizes.back();
  }
  return record("concat", y, parts, [sizes, dim](const Tensor& dy, BackwardContext& context) {
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < sizes.size(); begin += sizes[i++]) {
      const int input = static_cast<int>(i);
      if (context.wants(input)) context.add(input, slice(dy, dim, begin, begin + sizes[i]));
    }
  });
}

// ---- stack: parts of one shape along a new dim; a concat of parts that have the dim with size 1
// ----

Tensor stack(const std::vector<Tensor>& parts, int dim) {
  VT_CHECK(!parts.empty(), "stack: there are no parts, expected one or more");
  dim = normalize_dim(dim, parts.front().dim() + 1, "stack");
  std::vector<Tensor> layers;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    VT_CHECK(parts[i].shape() == parts[0].shape(), "stack: part {} has shape {}, expected {} like part 0", i,
             to_string(parts[i].shape()), to_string(parts[0].shape()));
    layers.push_back(unsqueeze(parts[i], dim));
  }
  return concat(layers, dim);
}

// ---- flip: y[i] = x[n - 1 - i] along each of dims; dx = flip(dy) ----

namespace {

/// The dims named, each once, as true or false per dim of x.
std::array<bool, max_dims> dim_set(const Tensor& x, const Dims& dims, std::string_view op) {
  std::array<bool, max_dims> in_set{};
  for (const std::int64_t dim : dims) {
    const auto d = static_cast<std::size_t>(normalize_dim(static_cast<int>(dim), x.dim(), op));
    VT_CHECK(!in_set[d], "{}: dims {} name dim {} twice, expected each dim of x {} at most once", op, to_string(dims),
             d, to_string(x.shape()));
    in_set[d] = true;
  }
  return in_set;
}

}  // namespace

Tensor flip(const Tensor& x, const Dims& dims) {
  const auto flipped = dim_set(x, dims, "flip");
  // Ops never see negative strides, but copy_into walks any: x is read from its last element
  // backwards.
  Strides strides = x.strides();
  std::int64_t offset = x.offset();
  for (int d = 0; d < x.dim(); ++d) {
    if (!flipped[static_cast<std::size_t>(d)] || x.shape()[d] == 0) continue;
    offset += (x.shape()[d] - 1) * strides[d];
    strides[d] = -strides[d];
  }
  const Tensor y = clone(x.view_as(x.shape(), strides, offset));
  return record("flip", y, {x}, [dims](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, flip(dy, dims));
  });
}

// ---- roll: y[(i + shift) mod n] = x[i] along each of dims; dx = roll(dy) by -shift ----

namespace {

/// y = x rolled along dims from `dim` on. Each dim is cut in two: the head moves back, the tail
/// wraps round to the front.
void roll_into(Tensor y, const Tensor& x, const Dims& shifts, int dim) {
  while (dim < x.dim() && shifts[dim] == 0) ++dim;
  if (dim == x.dim()) return copy_into(y, x);
  const std::int64_t size = x.shape()[dim], shift = shifts[dim], cut = size - shift;
  roll_into(slice(y, dim, shift, size), slice(x, dim, 0, cut), shifts, dim + 1);
  roll_into(slice(y, dim, 0, shift), slice(x, dim, cut, size), shifts, dim + 1);
}

}  // namespace

Tensor roll(const Tensor& x, const Dims& shifts, const Dims& dims) {
  VT_CHECK(shifts.size() == dims.size(), "roll: shifts {} for dims {}, expected one shift for each dim",
           to_string(shifts), to_string(dims));
  dim_set(x, dims, "roll");
  Dims by_dim = Dims::filled(x.dim(), 0);  // shifts, each in [0, size)
  Dims back = shifts;
  for (int i = 0; i < dims.size(); ++i) {
    const int dim = normalize_dim(static_cast<int>(dims[i]), x.dim(), "roll");
    const std::int64_t size = x.shape()[dim];
    if (size > 0) by_dim[dim] = (shifts[i] % size + size) % size;
    back[i] = -shifts[i];
  }
  const Tensor y = empty_like(x);
  roll_into(y, x.detach(), by_dim, 0);
  return record("roll", y, {x}, [back, dims](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, roll(dy, back, dims));
  });
}

// ---- pad: x in the middle of a tensor filled with `value`; dx = the middle of dy ----

namespace {

/// The part of x that starts at `start` and has shape `shape`.
Tensor window(Tensor x, const Dims& start, const Shape& shape) {
  for (int d = 0; d < shape.size(); ++d) {
    if (x.shape()[d] != shape[d]) x = slice(x, d, start[d], start[d] + shape[d]);
  }
  return x;
}

}  // namespace

Tensor pad(const Tensor& x, const Dims& before, const Dims& after, double value) {
  VT_CHECK(before.size() == x.dim() && after.size() == x.dim(),
           "pad: before {} and after {} for x {}, expected one entry for each dim of x", to_string(before),
           to_string(after), to_string(x.shape()));
  Shape shape = x.shape();
  for (int d = 0; d < x.dim(); ++d) {
    VT_CHECK(before[d] >= 0 && after[d] >= 0, "pad: before {} and after {}, expected 0 or more for each dim",
             to_string(before), to_string(after));
    shape[d] += before[d] + after[d];
  }
  const Tensor y = full(shape, value, x.dtype(), x.device());
  Tensor middle = window(y, before, x.shape());
  copy_into(middle, x);
  return record("pad", y, {x}, [before, shape = x.shape()](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, window(dy, before, shape));
  });
}

}  // namespace vitrine
