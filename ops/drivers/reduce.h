// The reduction driver: one functor per reduction, one CPU loop and a few CUDA kernels for all of
// them, over any dims.
//
// A reducer turns elements into a State and merges states:
//
//   struct Sum {                                                // sums of float
//     using State = float;
//     VT_HD State identity() const { return 0; }
//     VT_HD State map(float x, std::int64_t output, std::int64_t index) const { return x; }
//     VT_HD State combine(State a, State b) const { return a + b; }
//     VT_HD float finish(State total, std::int64_t output) const { return total; }
//   };
//
// `output` is the row-major index of the result that the element belongs to (a reducer that needs
// the mean of its row reads it there), `index` the element's row-major position among the reduced
// dims.
//
// Floating-point sums depend on the order of addition, and the compiler may not change it. So the
// order is chosen here: the lanes of ops/drivers/lanes.h within a row, chunks whose length depends
// on the shape alone, and a pairwise tree over lanes and chunks. That is fast, more accurate than
// one long sum, and gives the same bits for any number of threads.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "ops/drivers/lanes.h"
#include "ops/drivers/warp.h"
#include "tensor/device/packs.h"
#include "tensor/parallel.h"
#include "tensor/strided.h"
#include "tensor/tensor.h"

namespace vitrine {

/// How a tensor is read by a reduction: which offsets make one result, and in which pieces the work
/// is done.
struct ReduceLayout {
  StridedLoop<1> kept;     // results, row-major
  StridedLoop<1> reduced;  // elements of one result, row-major
  std::int64_t outputs = 1, count = 1;
  /// Neighbouring results are neighbours in memory: work on `tile` of them at once, like the column
  /// sums of a matrix.
  bool columns = false;
  std::int64_t tile = 1;   // results per task
  std::int64_t chunk = 1;  // elements of a result per task
  std::int64_t chunks() const { return chunk_count(count, chunk); }
};

/// `dims` are normalised (0 <= dim < x.dim()) and distinct.
ReduceLayout reduce_layout(const Tensor& x, const Dims& dims);

/// The dims that `dims` names, normalised and sorted, all of them where it is empty; an error of
/// `op` when one is out of range or named twice.
Dims reduced_dims(const Tensor& x, const Dims& dims, const char* op);

/// x's shape without `dims` (normalised), or with size 1 there.
Shape reduced_shape(const Shape& shape, const Dims& dims, bool keepdim);

namespace reduction {

VT_HD inline std::int64_t element_offset(const StridedLoop<1>& loop, std::int64_t index) {
  if (loop.dims <= 1) return loop.dims * index * loop.row_stride(0);
  std::int64_t offset[1];
  loop.row_offsets(index / loop.row_length(), offset);
  return offset[0] + index % loop.row_length() * loop.row_stride(0);
}

/// One run of `count` elements, `stride` apart, whose first is the result's `first`-th element.
template <class T, class Reducer>
typename Reducer::State reduce_run(const T* x, std::int64_t stride, std::int64_t count, const Reducer& reducer,
                                   std::int64_t output, std::int64_t first) {
  const auto combine = [&](auto a, auto b) { return reducer.combine(a, b); };
  const auto map = [&](std::int64_t i, std::int64_t step) {
    return reducer.map(static_cast<Compute<T>>(x[i * step]), output, first + i);
  };
  if (stride == 1)
    return lane_reduce(
        count, reducer.identity(), [&](auto i) { return map(i, 1); }, combine);
  return lane_reduce(
      count, reducer.identity(), [&](auto i) { return map(i, stride); }, combine);
}

/// Elements [begin, end) of one result, which starts at x.
template <class T, class Reducer>
typename Reducer::State reduce_row(const T* x, const ReduceLayout& layout, std::int64_t begin, std::int64_t end,
                                   const Reducer& reducer, std::int64_t output) {
  const std::int64_t length = layout.reduced.row_length(), stride = layout.reduced.row_stride(0);
  auto state = reducer.identity();
  while (begin < end) {
    const std::int64_t run = std::min(length - begin % length, end - begin);
    const T* start = x + element_offset(layout.reduced, begin);
    state = reducer.combine(state, reduce_run(start, stride, run, reducer, output, begin));
    begin += run;
  }
  return state;
}

/// Elements [begin, end) of `tile` neighbouring results at once, four elements of each per pass
/// over `states`.
template <class T, class Reducer>
void reduce_columns(const T* x, const ReduceLayout& layout, std::int64_t begin, std::int64_t end, std::int64_t tile,
                    const Reducer& reducer, std::int64_t output, typename Reducer::State* states) {
  for (std::int64_t c = 0; c < tile; ++c) states[c] = reducer.identity();
  auto map = [&](const T* row, std::int64_t c, std::int64_t r) {
    return reducer.map(static_cast<Compute<T>>(row[c]), output + c, r);
  };
  std::int64_t r = begin;
  for (; r + 4 <= end; r += 4) {
    const T* row[4];
    for (int k = 0; k < 4; ++k) row[k] = x + element_offset(layout.reduced, r + k);
    for (std::int64_t c = 0; c < tile; ++c) {
      const auto first = reducer.combine(map(row[0], c, r), map(row[1], c, r + 1));
      const auto second = reducer.combine(map(row[2], c, r + 2), map(row[3], c, r + 3));
      states[c] = reducer.combine(states[c], reducer.combine(first, second));
    }
  }
  for (; r < end; ++r) {
    const T* row = x + element_offset(layout.reduced, r);
    for (std::int64_t c = 0; c < tile; ++c) states[c] = reducer.combine(states[c], map(row, c, r));
  }
}

/// All chunks of all results: states is (chunks, outputs).
template <class T, class Reducer>
void reduce_chunks(const T* x, const ReduceLayout& layout, const Reducer& reducer, typename Reducer::State* states) {
  // A tile never crosses the end of a run of neighbouring results.
  const std::int64_t run = layout.columns ? layout.kept.row_length() : layout.outputs;
  const std::int64_t tiles_per_run = chunk_count(run, layout.tile);
  const std::int64_t tiles = layout.outputs / run * tiles_per_run;
  parallel_for(tiles * layout.chunks(), 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t part = task / tiles, first_tile = task % tiles;
    const std::int64_t column = first_tile % tiles_per_run * layout.tile;
    const std::int64_t output = first_tile / tiles_per_run * run + column;
    const std::int64_t tile = std::min(layout.tile, run - column);
    const std::int64_t begin = part * layout.chunk, end = std::min(layout.count, begin + layout.chunk);
    auto* target = states + part * layout.outputs + output;
    if (layout.columns) {
      reduce_columns(x + element_offset(layout.kept, output), layout, begin, end, tile, reducer, output, target);
    } else {
      for (std::int64_t o = 0; o < tile; ++o) {
        const T* row = x + element_offset(layout.kept, output + o);
        target[o] = reduce_row(row, layout, begin, end, reducer, output + o);
      }
    }
  });
}

template <class T, class U, class Reducer>
void reduce_cpu(const T* x, U* y, const ReduceLayout& layout, const Reducer& reducer) {
  using State = typename Reducer::State;
  const std::int64_t chunks = std::max<std::int64_t>(1, layout.chunks());
  Tensor buffer = empty({chunks * layout.outputs * static_cast<std::int64_t>(sizeof(State))}, DType::u8);
  auto* states = static_cast<State*>(buffer.raw_data());
  if (layout.count == 0) {
    std::fill(states, states + layout.outputs, reducer.identity());
  } else {
    reduce_chunks(x, layout, reducer, states);
  }
  parallel_for(layout.outputs, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t width = 1; width < chunks; width *= 2) {
      for (std::int64_t i = 0; i + width < chunks; i += 2 * width) {
        State* left = states + i * layout.outputs;
        const State* right = states + (i + width) * layout.outputs;
        for (std::int64_t o = begin; o < end; ++o) left[o] = reducer.combine(left[o], right[o]);
      }
    }
    for (std::int64_t o = begin; o < end; ++o) y[o] = static_cast<U>(reducer.finish(states[o], o));
  });
}

#if VT_CUDA
inline constexpr int block_threads = 256;

/// The states of the blockDim.x threads of one row of the block, joined into that of its first
/// thread.
template <class Reducer, class State = typename Reducer::State>
__device__ State join_threads(State state, State* row, const Reducer& reducer) {
  row[threadIdx.x] = state;
  block_barrier();
  for (unsigned width = blockDim.x / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) row[threadIdx.x] = reducer.combine(row[threadIdx.x], row[threadIdx.x + width]);
    block_barrier();
  }
  return row[0];
}

/// The block of the kernels of columns: neighbours in x, the elements of a column shared among y.
/// Eight packs of 16 bytes are the 128 that a GPU fetches at once.
inline constexpr int column_packs = 8, column_threads = 64;

/// The `width` states of each of the threads of a column of the block, joined into those of its
/// first thread.
template <int width, class Reducer, class State = typename Reducer::State>
__device__ void join_column(State (&states)[width], const Reducer& reducer) {
  __shared__ State shared[column_threads / 2][width][column_packs];
  for (unsigned height = blockDim.y / 2; height > 0; height /= 2) {
    block_barrier();  // the last states have been read
    if (threadIdx.y >= height && threadIdx.y < 2 * height) {
      for (int k = 0; k < width; ++k) shared[threadIdx.y - height][k][threadIdx.x] = states[k];
    }
    block_barrier();
    if (threadIdx.y < height) {
      for (int k = 0; k < width; ++k) states[k] = reducer.combine(states[k], shared[threadIdx.y][k][threadIdx.x]);
    }
  }
}

/// Where the kernels put what becomes of a chunk: among the states (chunks, outputs), or finished
/// where there is one chunk only.
template <class U, class Reducer>
struct Destination {
  typename Reducer::State* states;  // nullptr: one chunk
  U* y;
  __device__ void put(const Reducer& reducer, std::int64_t item, const typename Reducer::State& state) const {
    if (states) {
      states[item] = state;
    } else {
      y[item] = static_cast<U>(reducer.finish(state, item));
    }
  }
};

/// One row of threads per chunk of a result. Each thread takes `width` neighbours with one load.
template <int width, class T, class U, class Reducer>
__global__ void reduce_rows_kernel(const T* x, ReduceLayout layout, Reducer reducer, std::int64_t chunks,
                                   Destination<U, Reducer> to) {
  __shared__ typename Reducer::State shared[block_threads];
  const std::int64_t items = chunks * layout.outputs, step = static_cast<std::int64_t>(gridDim.x) * blockDim.y;
  // All threads of the block go round together, because they meet at barriers.
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.y; first < items; first += step) {
    const std::int64_t item = first + threadIdx.y, output = item % layout.outputs;
    auto state = reducer.identity();
    if (item < items) {
      const std::int64_t begin = item / layout.outputs * layout.chunk;
      const std::int64_t end = begin + layout.chunk < layout.count ? begin + layout.chunk : layout.count;
      const std::int64_t end_of_packs = end - (end - begin) % width;
      const T* start = x + element_offset(layout.kept, output);
      for (std::int64_t i = begin + threadIdx.x * width; i < end_of_packs; i += blockDim.x * width) {
        Compute<T> values[width];
        load_pack(start + element_offset(layout.reduced, i), values);
#pragma unroll
        for (int k = 0; k < width; ++k) state = reducer.combine(state, reducer.map(values[k], output, i + k));
      }
      for (std::int64_t i = end_of_packs + threadIdx.x; i < end; i += blockDim.x) {
        const auto value = static_cast<Compute<T>>(start[element_offset(layout.reduced, i)]);
        state = reducer.combine(state, reducer.map(value, output, i));
      }
    }
    state = join_threads(state, shared + threadIdx.y * blockDim.x, reducer);
    if (threadIdx.x == 0 && item < items) to.put(reducer, item, state);
  }
}

/// A block per chunk of eight packs of `width` neighbouring results; 64 threads share the elements
/// of a pack, one load for each.
template <int width, class T, class U, class Reducer>
__global__ void reduce_columns_kernel(const T* x, ReduceLayout layout, Reducer reducer, std::int64_t chunks,
                                      Destination<U, Reducer> to) {
  const std::int64_t packs = layout.outputs / width, blocks = (packs + column_packs - 1) / column_packs;
  for (std::int64_t item = blockIdx.x; item < chunks * blocks; item += gridDim.x) {
    const std::int64_t part = item / blocks, pack = item % blocks * column_packs + threadIdx.x, output = pack * width;
    const std::int64_t begin = part * layout.chunk;
    const std::int64_t end = begin + layout.chunk < layout.count ? begin + layout.chunk : layout.count;
    typename Reducer::State states[width];
    for (auto& each : states) each = reducer.identity();
    if (pack < packs) {
      const T* start = x + element_offset(layout.kept, output);
#pragma unroll 8
      for (std::int64_t i = begin + threadIdx.y; i < end; i += blockDim.y) {
        Compute<T> values[width];
        load_pack(start + element_offset(layout.reduced, i), values);
#pragma unroll
        for (int k = 0; k < width; ++k) {
          states[k] = reducer.combine(states[k], reducer.map(values[k], output + k, i));
        }
      }
    }
    join_column(states, reducer);
    if (threadIdx.y > 0 || pack >= packs) continue;
#pragma unroll
    for (int k = 0; k < width; ++k) to.put(reducer, part * layout.outputs + output + k, states[k]);
  }
}

/// Joins the chunks of eight results in each block and finishes them.
template <class U, class Reducer>
__global__ void finish_kernel(const typename Reducer::State* chunk_states, std::int64_t outputs, std::int64_t chunks,
                              Reducer reducer, U* y) {
  for (std::int64_t first = std::int64_t{blockIdx.x} * column_packs; first < outputs;
       first += std::int64_t{gridDim.x} * column_packs) {
    const std::int64_t output = first + threadIdx.x;
    typename Reducer::State states[1]{reducer.identity()};
    for (std::int64_t i = threadIdx.y; output < outputs && i < chunks; i += blockDim.y) {
      states[0] = reducer.combine(states[0], chunk_states[i * outputs + output]);
    }
    join_column(states, reducer);
    if (threadIdx.y == 0 && output < outputs) y[output] = static_cast<U>(reducer.finish(states[0], output));
  }
}

/// Whether every stride but that of the innermost dim is a multiple of `width`, and the innermost
/// dim has whole packs.
inline bool holds_packs(const StridedLoop<1>& loop, bool innermost_is_dense, int width) {
  for (int d = 0; d < loop.dims - (innermost_is_dense ? 1 : 0); ++d) {
    if (loop.stride[0][d] % width != 0) return false;
  }
  return !innermost_is_dense || loop.row_length() % width == 0;
}

/// Whether the kernels above can take packs of `width` neighbours of the reduced elements, or of
/// the results in columns.
template <class T>
bool takes_packs(const T* x, const ReduceLayout& layout, int width) {
  if (!are_aligned(16, x)) return false;
  if (layout.columns) return holds_packs(layout.kept, true, width) && holds_packs(layout.reduced, false, width);
  const bool is_one_run = layout.reduced.dims == 1;  // its last elements go one by one
  return layout.reduced.row_stride(0) == 1 && layout.chunk % width == 0 && holds_packs(layout.kept, false, width) &&
         (is_one_run || holds_packs(layout.reduced, true, width));
}

/// A block for columns of `length` elements: no more threads than elements, a power of two of them.
inline dim3 column_block(std::int64_t length) {
  const auto most = static_cast<std::uint64_t>(column_threads);
  return dim3(column_packs, static_cast<unsigned>(std::min(most, std::bit_ceil(static_cast<std::uint64_t>(length)))));
}

template <int width, class T, class U, class Reducer>
void launch_chunks(const T* x, const ReduceLayout& layout, const Reducer& reducer, std::int64_t chunks,
                   Destination<U, Reducer> to) {
  if (layout.columns) {
    const std::int64_t blocks = chunk_count(layout.outputs / width, column_packs);
    launch(reduce_columns_kernel<width, T, U, Reducer>, grid_for(chunks * blocks, 1), column_block(layout.chunk), 0,
           current_stream(), x, layout, reducer, chunks, to);
    return;
  }
  const int row = layout.count <= 1024 ? warp_threads : block_threads;
  const std::int64_t rows = std::min<std::int64_t>(block_threads / row, chunks * layout.outputs);
  const dim3 block(static_cast<unsigned>(row), static_cast<unsigned>(rows));
  launch(reduce_rows_kernel<width, T, U, Reducer>, grid_for(chunks * layout.outputs, block.y), block, 0,
         current_stream(), x, layout, reducer, chunks, to);
}

template <class T, class U, class Reducer>
void reduce_cuda(const T* x, U* y, ReduceLayout layout, const Reducer& reducer, Device device) {
  using State = typename Reducer::State;
  // Up to 16 elements for each of the threads that share a column, and then no second kernel; else
  // eight for each.
  if (layout.columns) layout.chunk = layout.count <= 1024 ? std::max<std::int64_t>(1, layout.count) : 512;
  const std::int64_t chunks = std::max<std::int64_t>(1, layout.chunks());
  const std::int64_t bytes = chunks > 1 ? chunks * layout.outputs * static_cast<std::int64_t>(sizeof(State)) : 0;
  Tensor buffer = empty({bytes}, DType::u8, device);
  const Destination<U, Reducer> to{bytes > 0 ? static_cast<State*>(buffer.raw_data()) : nullptr, y};
  if (takes_packs(x, layout, pack_width<T>)) {
    launch_chunks<pack_width<T>>(x, layout, reducer, chunks, to);
  } else {
    launch_chunks<1>(x, layout, reducer, chunks, to);
  }
  if (chunks == 1) return;
  launch(finish_kernel<U, Reducer>, grid_for(layout.outputs, column_packs), column_block(chunks), 0, current_stream(),
         to.states, layout.outputs, chunks, reducer, y);
}
#endif

}  // namespace reduction

/// y[o] = finish(combination of map(x[...])) for every result o. `dims` as `reduced_dims` gives
/// them; y is row-major, on x's device, and has one element per result. T and U are the element
/// types of x and y.
template <class T, class U, class Reducer>
void reduce(const Tensor& x, const Dims& dims, Tensor& y, const Reducer& reducer) {
  if (y.numel() == 0) return;
  const ReduceLayout layout = reduce_layout(x, dims);
#if VT_CUDA
  if (x.device().is_cuda()) {
    reduction::reduce_cuda(x.data<T>(), y.data<U>(), layout, reducer, x.device());
    return;
  }
#endif
  reduction::reduce_cpu(x.data<T>(), y.data<U>(), layout, reducer);
}

}  // namespace vitrine
