// Indexing: gather and its adjoint scatter_add, and what is made of the two: index_select,
// embedding and one_hot.
//
// Where an index is repeated, scatter_add adds several elements of x to one element of y. One
// thread owns that element and adds in the order of the index: the result has the same bits for any
// number of threads and on every run.
#include <algorithm>

#include "ops/drivers/warp.h"
#include "ops/index.h"
#include "ops/ops.h"
#include "tensor/device/launch.h"
#include "tensor/parallel.h"
#include "tensor/strided.h"

namespace vitrine {
namespace {

constexpr std::int64_t elements_per_chunk = 1 << 14;

// ---- Checks ----

/// The multi-index of the element at `position` in row-major order: "(2, 0)".
std::string multi_index_of(std::int64_t position, const Shape& shape) {
  Dims index = shape;
  for (int d = shape.size() - 1; d >= 0; --d) {
    index[d] = position % shape[d];
    position /= shape[d];
  }
  return to_string(index);
}

/// Every index must lie in [0, size); looked at on the host, for a stray index on a GPU would
/// silently read elsewhere.
void check_indices(const char* op, const Tensor& index, std::int64_t size, std::string_view what) {
  dispatch_index(index.dtype(), op, [&](auto tag) {
    using I = typename decltype(tag)::type;
    const Tensor flat = contiguous_data(to_device(index, cpu));
    const I* values = flat.data<I>();
    for (std::int64_t i = 0; i < flat.numel(); ++i) {
      VT_CHECK(values[i] >= 0 && values[i] < size, "{}: index is {} at {}, expected 0 <= index < {} = {}", op,
               values[i], multi_index_of(i, index.shape()), size, what);
    }
  });
}

std::string name_dim(int dim, const Tensor& x, const char* name) {
  return fmt::format("size of dim {} of {} {}", dim, name, to_string(x.shape()));
}

void check_device(const char* op, const Tensor& x, const Tensor& index) {
  VT_CHECK(index.device() == x.device(), "{}: index is on {}, expected {} like {} {}", op, to_string(index.device()),
           to_string(x.device()), name_of(x.dtype()), to_string(x.shape()));
}

// ---- gather: y[..., i, ...] = x[..., index[..., i, ...], ...] ----

/// The loop over y, index and x together; x stands still along `dim`, whose stride the index
/// multiplies.
StridedLoop<3> gather_loop(const Tensor& y, const Tensor& index, const Tensor& x, int dim) {
  Strides still = x.strides();
  still[dim] = 0;
  return collapse<3>(index.shape(), {y.strides(), index.strides(), still});
}

template <class T, class I>
void gather_rows(T* y, const I* index, const T* x, std::int64_t index_step, const StridedLoop<3>& loop,
                 std::int64_t begin, std::int64_t end) {
  const std::int64_t length = loop.row_length();
  const std::int64_t ys = loop.row_stride(0), is = loop.row_stride(1), xs = loop.row_stride(2);
  for (std::int64_t row = begin; row < end; ++row) {
    std::int64_t offset[3];
    loop.row_offsets(row, offset);
    T* to = y + offset[0];
    const I* at = index + offset[1];
    const T* from = x + offset[2];
    if (is == 0 && ys == 1 && xs == 1) {  // one index for a dense row: whole rows move (index_select, embedding)
      std::copy_n(from + at[0] * index_step, length, to);
    } else {
      for (std::int64_t i = 0; i < length; ++i) to[i * ys] = from[i * xs + at[i * is] * index_step];
    }
  }
}

#if VT_CUDA
template <class T, class I>
__global__ void gather_kernel(T* y, const I* index, const T* x, std::int64_t index_step, StridedLoop<3> loop,
                              std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    std::int64_t offset[3];
    loop.element_offsets(i, count, offset);
    y[offset[0]] = x[offset[2] + index[offset[1]] * index_step];
  }
}
#endif

template <class T, class I>
void gather_into(Tensor& y, const Tensor& index, const Tensor& x, int dim) {
  const StridedLoop<3> loop = gather_loop(y, index, x, dim);
  const std::int64_t index_step = x.strides()[dim];
  if (y.numel() == 0) return;
#if VT_CUDA
  if (y.device().is_cuda()) {
    launch(gather_kernel<T, I>, grid_for(y.numel(), 256), dim3(256), 0, current_stream(), y.data<T>(), index.data<I>(),
           x.data<T>(), index_step, loop, y.numel());
    return;
  }
#endif
  const std::int64_t rows_per_chunk = std::max<std::int64_t>(1, elements_per_chunk / loop.row_length());
  parallel_for(loop.row_count(), rows_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    gather_rows(y.data<T>(), index.data<I>(), x.data<T>(), index_step, loop, begin, end);
  });
}

// ---- scatter_add, the adjoint: y = 0, then y[..., index[..., i, ...], ...] += x[..., i, ...] ----
//
// for i = 0, 1, ... in this order.

/// Columns of x: all dims but `dim`. Two columns never write to the same element, so threads share
/// them out.
template <class T, class I>
struct ScatterAdd {
  Compute<T>* y;
  const I* index;
  const T* x;
  StridedLoop<3> columns;                   // y, index, x
  std::int64_t length;                      // of dim in x and index
  std::int64_t y_step, index_step, x_step;  // strides of dim

  /// Adds columns [begin, end) of row `row` of the loop over columns.
  void add(std::int64_t row, std::int64_t begin, std::int64_t end) const {
    const std::int64_t ys = columns.row_stride(0), is = columns.row_stride(1), xs = columns.row_stride(2);
    std::int64_t offset[3];
    columns.row_offsets(row, offset);
    for (std::int64_t i = 0; i < length; ++i) {
      const I* at = index + offset[1] + i * index_step;
      const T* from = x + offset[2] + i * x_step;
      Compute<T>* to = y + offset[0];
      if (is == 0 && ys == 1 && xs == 1) {  // one index for a dense row
        to += at[0] * y_step;
        for (std::int64_t c = begin; c < end; ++c) to[c] += static_cast<Compute<T>>(from[c]);
      } else {
        for (std::int64_t c = begin; c < end; ++c)
          to[c * ys + at[c * is] * y_step] += static_cast<Compute<T>>(from[c * xs]);
      }
    }
  }
};

#if VT_CUDA
template <class T, class I>
__global__ void scatter_add_kernel(ScatterAdd<T, I> job, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; c < count; c += step) {
    std::int64_t offset[3];
    job.columns.element_offsets(c, count, offset);
    for (std::int64_t i = 0; i < job.length; ++i) {
      const I at = job.index[offset[1] + i * job.index_step];
      job.y[offset[0] + at * job.y_step] += static_cast<Compute<T>>(job.x[offset[2] + i * job.x_step]);
    }
  }
}

/// The same by the inverse of the index, for an index that is the same for every column: a warp for
/// each row of y and 32 of its columns, one column a lane. The lanes look at 32 entries of the
/// index at once; whichever of these name the row are added by all lanes, in the order of the
/// index. For few columns: the gradient of a bias table of Swin has only as many as there are
/// heads, which is too few threads for the kernel above.
template <class T, class I>
__global__ void scatter_add_by_row_kernel(ScatterAdd<T, I> job, std::int64_t rows, std::int64_t count) {
  const std::int64_t strips = (count + warp_threads - 1) / warp_threads;
  for_each_row_of_grid(rows * strips, [&](std::int64_t item) {
    const std::int64_t row = item / strips, column = item % strips * warp_threads + threadIdx.x;
    const bool exists = column < count;
    std::int64_t offset[3];
    job.columns.element_offsets(exists ? column : 0, count, offset);
    Compute<T> sum = 0;
    for (std::int64_t first = 0; first < job.length; first += warp_threads) {
      const std::int64_t mine = first + threadIdx.x;
      const bool matches = mine < job.length && static_cast<std::int64_t>(job.index[mine * job.index_step]) == row;
      for (unsigned left = ballot(matches); left != 0; left &= left - 1) {
        const std::int64_t i = first + lowest_bit(left);
        if (exists) sum += static_cast<Compute<T>>(job.x[offset[2] + i * job.x_step]);
      }
    }
    if (exists) job.y[offset[0] + row * job.y_step] = sum;
  });
}

/// `rows` is the size of y along dim, `count` the number of columns.
template <class T, class I>
void scatter_add_on_cuda(const ScatterAdd<T, I>& job, std::int64_t rows, std::int64_t count) {
  bool one_index = true;
  for (int d = 0; d < job.columns.dims; ++d) one_index = one_index && job.columns.stride[1][d] == 0;
  const std::int64_t strips = chunk_count(count, warp_threads);
  const bool reads_little = rows * strips <= (std::int64_t{1} << 30) / std::max<std::int64_t>(1, job.length);
  if (one_index && count < 4096 && reads_little) {
    launch_rows(scatter_add_by_row_kernel<T, I>, rows * strips, job, rows, count);
  } else {
    launch(scatter_add_kernel<T, I>, grid_for(count, 128), dim3(128), 0, current_stream(), job, count);
  }
}
#endif

template <class T, class I>
void scatter_add_into(Tensor& y, const Tensor& index, const Tensor& x, int dim) {
  Shape shape = index.shape();
  Strides to = y.strides(), at = index.strides(), from = x.strides();
  for (Dims* dims : {&shape, &to, &at, &from}) dims->erase(dim);
  const ScatterAdd<T, I> job{
      y.data<Compute<T>>(), index.data<I>(),  x.data<T>(),          collapse<3>(shape, {to, at, from}),
      index.shape()[dim],   y.strides()[dim], index.strides()[dim], x.strides()[dim]};
  if (index.numel() == 0) return;
#if VT_CUDA
  if (y.device().is_cuda()) return scatter_add_on_cuda(job, y.shape()[dim], element_count(shape));
#endif
  const std::int64_t row_length = job.columns.row_length();
  const std::int64_t block = std::min<std::int64_t>(row_length, 64), blocks = chunk_count(row_length, block);
  const std::int64_t grain = std::max<std::int64_t>(1, elements_per_chunk / (block * job.length));
  parallel_for(job.columns.row_count() * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t column = i % blocks * block;
      job.add(i / blocks, column, std::min(column + block, row_length));
    }
  });
}

Tensor gather_checked(const char* op, const Tensor& x, int dim, const Tensor& index);

/// x has the index's shape, y has `shape`. Sums are kept in float for bf16. dx = gather(dy, dim,
/// index).
Tensor scatter_add(const char* op, const Tensor& x, int dim, const Tensor& index, const Shape& shape) {
  const Tensor y = dispatch_floating(x.dtype(), op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Tensor sum = zeros(shape, dtype_of<Compute<T>>(), x.device());
    dispatch_index(index.dtype(), op, [&](auto index_tag) {
      scatter_add_into<T, typename decltype(index_tag)::type>(sum, index, x, dim);
    });
    return cast_data(sum, x.dtype());
  });
  return record("scatter_add", y, {x}, [op, dim, index = Saved(index, op)](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, gather_checked(op, dy, dim, *index));
  });
}

/// gather with an index that is known to be good, under the name of the op that the user called.
Tensor gather_checked(const char* op, const Tensor& x, int dim, const Tensor& index) {
  Tensor y = empty_for("gather", index.shape(), x.dtype(), x.device());
  dispatch_all(x.dtype(), op, [&](auto tag) {
    dispatch_index(index.dtype(), op, [&](auto index_tag) {
      gather_into<typename decltype(tag)::type, typename decltype(index_tag)::type>(y, index, x, dim);
    });
  });
  return record(op, y, {x},
                [op, dim, shape = x.shape(), index = Saved(index, op)](const Tensor& dy, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, scatter_add(op, dy, dim, *index, shape));
                });
}

}  // namespace

Tensor gather(const Tensor& x, int dim, const Tensor& index) {
  dim = normalize_dim(dim, x.dim(), "gather");
  check_device("gather", x, index);
  bool fits = index.dim() == x.dim();
  for (int d = 0; fits && d < x.dim(); ++d) fits = d == dim || index.shape()[d] <= x.shape()[d];
  VT_CHECK(fits, "gather: index has shape {}, expected {} dims like x {}, none larger than x's but dim {}",
           to_string(index.shape()), x.dim(), to_string(x.shape()), dim);
  check_indices("gather", index, x.shape()[dim], name_dim(dim, x, "x"));
  return gather_checked("gather", x, dim, index);
}

// ---- index_select: y[..., i, ...] = x[..., index[i], ...] ----
//
// A gather whose index is the same for all other dims.

namespace {

Tensor select_rows(const char* op, const Tensor& x, int dim, const Tensor& index) {
  Shape shape = x.shape();
  shape[dim] = index.numel();
  Strides strides = Dims::filled(x.dim(), 0);
  strides[dim] = index.strides()[0];
  return gather_checked(op, x, dim, index.view_as(shape, strides, index.offset()));
}

}  // namespace

Tensor index_select(const Tensor& x, int dim, const Tensor& index) {
  dim = normalize_dim(dim, x.dim(), "index_select");
  VT_CHECK(index.dim() == 1, "index_select: index has shape {}, expected one dim", to_string(index.shape()));
  check_device("index_select", x, index);
  check_indices("index_select", index, x.shape()[dim], name_dim(dim, x, "x"));
  return select_rows("index_select", x, dim, index);
}

Tensor index_select_unchecked(const Tensor& x, int dim, const Tensor& index) {
  check_device("index_select", x, index);
  return select_rows("index_select", x, normalize_dim(dim, x.dim(), "index_select"), index);
}

// ---- embedding: y[..., d] = weight[index[...], d]; weight (V, D), index (...) ----

Tensor embedding(const Tensor& weight, const Tensor& index) {
  VT_CHECK(weight.dim() == 2, "embedding: weight has shape {}, expected (V, D)", to_string(weight.shape()));
  check_device("embedding", weight, index);
  check_indices("embedding", index, weight.shape()[0], name_dim(0, weight, "weight"));
  Shape shape = index.shape();
  shape.push_back(weight.shape()[1]);
  return reshape(select_rows("embedding", weight, 0, reshape(index, {-1})), shape);
}

// ---- one_hot: y[..., c] = 1 where index[...] = c, else 0 ----

Tensor one_hot(const Tensor& index, std::int64_t classes, DType dtype) {
  VT_CHECK(classes >= 1, "one_hot: classes is {}, expected 1 or more", classes);
  check_indices("one_hot", index, classes, "classes");
  return cast(equal(unsqueeze(index, -1), arange(classes, index.dtype(), index.device())), dtype);
}

}  // namespace vitrine
