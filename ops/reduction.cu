// Reductions over any dims: sum, mean, amax, amin, var, logsumexp, argmax, and sum_to, the reverse of broadcasting.
#include <limits>

#include "ops/ops.h"
#include "ops/reduce.h"

namespace vitrine {

// ---- What all of them share: the dims and the layout ----

Dims reduced_dims(const Tensor& x, const Dims& dims, const char* op) {
  bool named[max_dims] = {};
  for (const std::int64_t dim : dims) {
    const int d = normalize_dim(static_cast<int>(dim), x.dim(), op);
    VT_CHECK(!named[d], "{}: dims {} name dim {} twice, expected distinct dims of x {}", op, to_string(dims), d,
             to_string(x.shape()));
    named[d] = true;
  }
  Dims result;
  for (int d = 0; d < x.dim(); ++d) {
    if (dims.empty() || named[d]) result.push_back(d);
  }
  return result;
}

Shape reduced_shape(const Shape& shape, const Dims& dims, bool keepdim) {
  Shape result;
  for (int d = 0, next = 0; d < shape.size(); ++d) {
    const bool reduced = next < dims.size() && dims[next] == d;
    if (reduced) ++next;
    if (!reduced || keepdim) result.push_back(reduced ? 1 : shape[d]);
  }
  return result;
}

ReduceLayout reduce_layout(const Tensor& x, const Dims& dims) {
  Shape shapes[2];  // kept, reduced
  Strides strides[2];
  for (int d = 0, next = 0; d < x.dim(); ++d) {
    const bool reduced = next < dims.size() && dims[next] == d;
    if (reduced) ++next;
    shapes[reduced].push_back(x.shape()[d]);
    strides[reduced].push_back(x.strides()[d]);
  }
  ReduceLayout layout;
  layout.kept = collapse<1>(shapes[0], {strides[0]});
  layout.reduced = collapse<1>(shapes[1], {strides[1]});
  layout.outputs = element_count(shapes[0]);
  layout.count = element_count(shapes[1]);
  layout.columns = layout.kept.dims > 0 && layout.kept.row_stride(0) == 1;
  // About 2^15 elements per task: long enough to pay for its start, short enough to share out and to stay accurate.
  if (layout.columns) {
    layout.tile = std::min<std::int64_t>(layout.kept.row_length(), 1024);
    layout.chunk = std::clamp<std::int64_t>((1 << 16) / layout.tile, 1, 512);
  } else {
    layout.chunk = 1 << 13;
    layout.tile = std::max<std::int64_t>(1, (1 << 15) / std::clamp<std::int64_t>(layout.count, 1, layout.chunk));
  }
  return layout;
}

namespace {

/// dy with its reduced dims back at size 1, then read as x's shape.
Tensor expand_back(const Tensor& dy, const Shape& shape, const Dims& dims) {
  return expand(reshape(dy, reduced_shape(shape, dims, true)), shape);
}

std::int64_t reduced_count(const Shape& shape, const Dims& dims) {
  std::int64_t count = 1;
  for (const std::int64_t d : dims) count *= shape[static_cast<int>(d)];
  return count;
}

}  // namespace

// ---- sum: y = sum x over dims; dx = dy, expanded ----

namespace {

template <class C>
struct Sum {
  using State = C;
  VT_HD State identity() const { return 0; }
  VT_HD State map(C x, std::int64_t, std::int64_t) const { return x; }
  VT_HD State combine(State a, State b) const { return a + b; }
  VT_HD C finish(State total, std::int64_t) const { return total; }
};

Tensor sum_data(const Tensor& x, const Dims& dims, const Shape& shape, const char* op) {
  Tensor y = empty(shape, x.dtype(), x.device());
  dispatch_numeric(x.dtype(), op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce<T, T>(x, dims, y, Sum<Compute<T>>{}, op);
  });
  return y;
}

}  // namespace

Tensor sum(const Tensor& x, const Dims& dims, bool keepdim) {
  const Dims over = reduced_dims(x, dims, "sum");
  Tensor y = sum_data(x, over, reduced_shape(x.shape(), over, keepdim), "sum");
  return record("sum", y, {x}, [shape = x.shape(), over](const Tensor& dy, Chain& chain) {
    if (chain.wants(0)) chain.add(0, expand_back(dy, shape, over));
  });
}

// ---- sum_to: y = x summed over the dims along which `shape` would be broadcast; dx = dy, expanded ----

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int extra = x.dim() - shape.size();
  bool fits = extra >= 0;
  Dims over;
  for (int d = 0; d < x.dim() && fits; ++d) {
    const std::int64_t target = d < extra ? 1 : shape[d - extra];
    fits = target == 1 || target == x.shape()[d];
    if (d < extra || target != x.shape()[d]) over.push_back(d);
  }
  VT_CHECK(fits, "sum_to: shape is {}, expected a shape that broadcasts to x {}", to_string(shape),
           to_string(x.shape()));
  Tensor y = sum_data(x, over, shape, "sum_to");
  return record("sum_to", y, {x}, [x_shape = x.shape()](const Tensor& dy, Chain& chain) {
    if (chain.wants(0)) chain.add(0, expand(dy, x_shape));
  });
}

// ---- mean: y = sum x / count; dx = dy / count, expanded. The mean of nothing is NaN. ----

namespace {

template <class C>
struct Mean : Sum<C> {
  C count;
  VT_HD C finish(C total, std::int64_t) const { return total / count; }
};

}  // namespace

Tensor mean(const Tensor& x, const Dims& dims, bool keepdim) {
  const Dims over = reduced_dims(x, dims, "mean");
  const auto count = static_cast<double>(reduced_count(x.shape(), over));
  Tensor y = empty(reduced_shape(x.shape(), over, keepdim), x.dtype(), x.device());
  dispatch_floating(x.dtype(), "mean", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    reduce<T, T>(x, over, y, Mean<C>{{}, static_cast<C>(count)}, "mean");
  });
  return record("mean", y, {x}, [shape = x.shape(), over, count](const Tensor& dy, Chain& chain) {
    if (chain.wants(0)) chain.add(0, expand_back(mul(dy, 1 / count), shape, over));
  });
}

}  // namespace vitrine
