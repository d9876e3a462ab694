// Reductions over any dims: sum, mean, amax, amin, var, logsumexp, argmax, and sum_to, the reverse
// of broadcasting.
#include <cmath>
#include <limits>

#include "ops/drivers/math.h"
#include "ops/drivers/reduce.h"
#include "ops/ops.h"

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
  // About 2^15 elements per task: long enough to pay for its start, short enough to share out and
  // to stay accurate.
  if (layout.columns) {
    layout.tile = std::min<std::int64_t>(layout.kept.row_length(), 1024);
    layout.chunk = std::clamp<std::int64_t>((1 << 16) / layout.tile, 1, 128);
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
    reduce<T, T>(x, dims, y, Sum<Compute<T>>{});
  });
  return y;
}

}  // namespace

Tensor sum(const Tensor& x, const Dims& dims, bool keepdim) {
  const Dims over = reduced_dims(x, dims, "sum");
  Tensor y = sum_data(x, over, reduced_shape(x.shape(), over, keepdim), "sum");
  return record("sum", y, {x}, [shape = x.shape(), over](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, expand_back(dy, shape, over));
  });
}

// ---- sum_to: y = x summed over the dims along which `shape` would be broadcast; dx = dy, expanded
// ----

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
  return record("sum_to", y, {x}, [x_shape = x.shape()](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, expand(dy, x_shape));
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
    reduce<T, T>(x, over, y, Mean<C>{{}, static_cast<C>(count)});
  });
  return record("mean", y, {x}, [shape = x.shape(), over, count](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, expand_back(mul(dy, 1 / count), shape, over));
  });
}

// ---- amax, amin: y = the largest or smallest; NaN wins. dy is shared equally by all elements that
// equal y. ----

namespace {

/// sign is 1 for the largest, -1 for the smallest.
template <class C, int sign>
struct Extreme {
  using State = C;
  VT_HD State identity() const {
    using Limits = std::numeric_limits<C>;
    if constexpr (Limits::has_infinity) return -sign * Limits::infinity();
    return sign > 0 ? Limits::lowest() : Limits::max();
  }
  VT_HD State map(C x, std::int64_t, std::int64_t) const { return x; }
  VT_HD State combine(State a, State b) const {
    const C further = (sign > 0 ? a > b : a < b) ? a : b;  // b where either is NaN
    return a == a ? further : a;                           // two selections vectorise, one of two conditions does not
  }
  VT_HD C finish(State total, std::int64_t) const { return total; }
};

void check_not_empty(const Tensor& x, const Dims& dims, const char* op) {
  VT_CHECK(reduced_count(x.shape(), dims) > 0, "{}: x has shape {}, expected at least one element along dims {}", op,
           to_string(x.shape()), to_string(dims));
}

template <int sign>
Tensor extreme(const Tensor& x, const Dims& dims, bool keepdim, const char* op) {
  const Dims over = reduced_dims(x, dims, op);
  check_not_empty(x, over, op);
  Tensor y = empty(reduced_shape(x.shape(), over, keepdim), x.dtype(), x.device());
  dispatch_numeric(x.dtype(), op, [&]<class T>(TypeTag<T>) { reduce<T, T>(x, over, y, Extreme<Compute<T>, sign>{}); });
  return record(op, y, {x}, [x = Saved(x, op), y = Saved(y, op), over](const Tensor& dy, BackwardContext& context) {
    const Tensor is_extreme = cast(equal(*x, expand_back(*y, x->shape(), over)), x->dtype());
    const Tensor share = reshape(dy, reduced_shape(x->shape(), over, true)) / sum(is_extreme, over, true);
    context.add(0, is_extreme * share);
  });
}

}  // namespace

Tensor amax(const Tensor& x, const Dims& dims, bool keepdim) { return extreme<1>(x, dims, keepdim, "amax"); }

Tensor amin(const Tensor& x, const Dims& dims, bool keepdim) { return extreme<-1>(x, dims, keepdim, "amin"); }

// ---- var: y = sum (x - mean)^2 / (count - correction); dx = 2 dy (x - mean) / (count -
// correction) ----
//
// The mean is kept in two parts, as it was rounded and the mean of x - mean, as in layer_norm
// (ops/norm/norm_statistics.h).

namespace {

/// The mean of x - mean, with one mean per result.
template <class C>
struct MeanDifference : Mean<C> {
  const C* mean;
  VT_HD C map(C x, std::int64_t output, std::int64_t) const { return x - mean[output]; }
};

template <class C>
struct SumOfSquares : Sum<C> {
  const C *mean, *mean_error;
  C divisor;
  VT_HD C map(C x, std::int64_t output, std::int64_t) const {
    const C difference = (x - mean[output]) - mean_error[output];
    return difference * difference;
  }
  VT_HD C finish(C total, std::int64_t) const { return total / divisor; }
};

}  // namespace

Tensor var(const Tensor& x, const Dims& dims, bool keepdim, int correction) {
  const Dims over = reduced_dims(x, dims, "var");
  const auto count = static_cast<double>(reduced_count(x.shape(), over));
  VT_CHECK(correction >= 0 && count > correction,
           "var: correction is {} for {} elements along dims {} of x {}, expected 0 <= correction < elements",
           correction, count, to_string(over), to_string(x.shape()));
  Tensor y = empty(reduced_shape(x.shape(), over, keepdim), x.dtype(), x.device());
  dispatch_floating(x.dtype(), "var", [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    Tensor means = empty({y.numel()}, dtype_of<C>(), x.device()), mean_errors = empty_like(means);
    const Mean<C> mean_of{{}, static_cast<C>(count)};
    reduce<T, C>(x, over, means, mean_of);
    reduce<T, C>(x, over, mean_errors, MeanDifference<C>{mean_of, means.data<C>()});
    const C divisor = static_cast<C>(count - correction);
    reduce<T, T>(x, over, y, SumOfSquares<C>{{}, means.data<C>(), mean_errors.data<C>(), divisor});
  });
  const double scale = 2 / (count - correction);
  return record("var", y, {x}, [x = Saved(x, "var"), over, scale](const Tensor& dy, BackwardContext& context) {
    const Tensor rough = *x - mean(*x, over, true);
    const Tensor centered = rough - mean(rough, over, true);
    context.add(0, centered * reshape(dy * scale, reduced_shape(x->shape(), over, true)));
  });
}

// ---- logsumexp: y = max + ln sum e^(x - max); dx = dy e^(x - y), which is 0 in a row of -infinity
// ----

namespace {

/// What is subtracted: the maximum, but 0 for an infinite one, because infinity - infinity is NaN.
template <class C>
struct ShiftOf : Extreme<C, 1> {
  VT_HD C finish(C max, std::int64_t) const { return max - max == 0 || max != max ? max : C(0); }
};

template <class C>
struct LogSumExpOf : Sum<C> {
  const C* shift;
  VT_HD C map(C x, std::int64_t output, std::int64_t) const { return math::exp(x - shift[output]); }
  VT_HD C finish(C total, std::int64_t output) const { return shift[output] + std::log(total); }
};

}  // namespace

Tensor logsumexp(const Tensor& x, const Dims& dims, bool keepdim) {
  const Dims over = reduced_dims(x, dims, "logsumexp");
  Tensor y = empty(reduced_shape(x.shape(), over, keepdim), x.dtype(), x.device());
  dispatch_floating(x.dtype(), "logsumexp", [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    Tensor shift = empty({y.numel()}, dtype_of<C>(), x.device());
    reduce<T, C>(x, over, shift, ShiftOf<C>{});
    reduce<T, T>(x, over, y, LogSumExpOf<C>{{}, shift.data<C>()});
  });
  return record(
      "logsumexp", y, {x},
      [x = Saved(x, "logsumexp"), y = Saved(y, "logsumexp"), over](const Tensor& dy, BackwardContext& context) {
        const auto scalar = [&](double value) { return full({}, value, x->dtype(), x->device()); };
        const Tensor total = context.output(y);
        const Tensor is_masked = equal(total, scalar(-std::numeric_limits<double>::infinity()));
        const Tensor finite = where(is_masked, scalar(0), total);
        const Shape kept = reduced_shape(x->shape(), over, true);
        context.add(0, exp(*x - reshape(finite, kept)) * reshape(dy, kept));
      });
}

// ---- argmax: y = index of the first maximum along dim; NaN counts as the maximum ----

namespace {

/// The smallest index at which x equals its row's maximum.
template <class C>
struct FirstIndexOf {
  using State = std::int64_t;
  const C* maximum;
  VT_HD State identity() const { return std::numeric_limits<State>::max(); }
  VT_HD State map(C x, std::int64_t output, std::int64_t index) const {
    const C wanted = maximum[output];
    const bool is_found = wanted == wanted ? x == wanted : x != x;
    return is_found ? index : identity();
  }
  VT_HD State combine(State a, State b) const { return a < b ? a : b; }
  VT_HD State finish(State index, std::int64_t) const { return index; }
};

}  // namespace

Tensor argmax(const Tensor& x, int dim, bool keepdim) {
  const Dims over = {normalize_dim(dim, x.dim(), "argmax")};
  check_not_empty(x, over, "argmax");
  Tensor y = empty(reduced_shape(x.shape(), over, keepdim), DType::i64, x.device());
  dispatch_numeric(x.dtype(), "argmax", [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    Tensor maximum = empty({y.numel()}, dtype_of<C>(), x.device());
    reduce<T, C>(x, over, maximum, Extreme<C, 1>{});
    reduce<T, std::int64_t>(x, over, y, FirstIndexOf<C>{maximum.data<C>()});
  });
  return y;
}

}  // namespace vitrine
