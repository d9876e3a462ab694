// The map driver: applies a functor to every element of up to a few tensors, on any device, dtype
// and strides.
//
//   struct Multiply {
//     template <class T>
//     VT_HD T operator()(T a, T b) const { return a * b; }
//   };
//   Tensor y = map_floating("mul", Multiply{}, a, b);     // broadcasts, checks dtype and device, allocates
//   map_into<bool, float, float>(Less{}, y, a, b);        // into a row-major tensor, with explicit element types
//
// A functor is written once for both devices. It receives Compute<In> of each operand and returns
// something that converts to Compute<Out>. The output is always row-major; operands are read
// through a `MapLoop`.
//
// CPU: the compiler vectorises one loop over contiguous elements. An operand that is not contiguous
// is first gathered into a tile on the stack, which stays in the first-level cache, so every layout
// runs through that same loop. CUDA: one kernel with 16-byte loads where everything is contiguous,
// one that follows strides elsewhere.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <tuple>
#include <utility>

#include "tensor/device/launch.h"
#include "tensor/device/packs.h"
#include "tensor/parallel.h"
#include "tensor/strided.h"
#include "tensor/tensor.h"

namespace vitrine {

/// How operands are read in the order of a row-major output.
template <int operands>
struct MapLoop {
  std::int64_t count = 0;          // elements of the output
  StridedLoop<operands> strided;   // where each operand's elements are
  bool contiguous[operands] = {};  // whether the operand's elements lie in the output's order, without gaps

  bool all_contiguous() const {
    return std::all_of(contiguous, contiguous + operands, [](bool c) { return c; });
  }
};

/// The loop that reads `x...` broadcast to `shape`.
template <std::same_as<Tensor>... Tensors>
MapLoop<sizeof...(Tensors)> make_map_loop(const Shape& shape, const Tensors&... x) {
  constexpr int operands = sizeof...(Tensors);
  const std::array<Strides, operands> strides = {broadcast_strides(x.shape(), x.strides(), shape)...};
  MapLoop<operands> map;
  map.count = element_count(shape);
  map.strided = collapse<operands>(shape, strides);
  for (int k = 0; k < operands; ++k) {
    const auto alone = collapse<1>(shape, {strides[static_cast<std::size_t>(k)]});
    map.contiguous[k] = alone.is_contiguous();
  }
  return map;
}

// ---- CPU ----

inline constexpr std::int64_t map_tile = 512;             // elements gathered at a time
inline constexpr std::int64_t map_grain = 32 * map_tile;  // elements per task of parallel_for

template <class T>
struct Tile {
  alignas(64) T values[map_tile];
};

/// Elements [start, start + count) of operand k in the output's order: in place where the operand
/// is contiguous, else gathered into `tile` one run along the last dim after another.
template <int operands, class T>
const T* read_tile(const MapLoop<operands>& map, int k, const T* x, std::int64_t start, std::int64_t count,
                   Tile<T>& tile) {
  if (map.contiguous[k]) return x + start;
  const std::int64_t* strides = map.strided.stride[k];
  const int last = map.strided.dims - 1;
  std::int64_t index[max_dims], offset = 0, rest = start;
  for (int d = last; d >= 0; --d) {
    index[d] = rest % map.strided.size[d];
    rest /= map.strided.size[d];
    offset += index[d] * strides[d];
  }
  const std::int64_t stride = strides[last];
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t run = std::min(count - done, map.strided.size[last] - index[last]);
    if (stride == 0) {
      const T value = x[offset];  // a copy: the compiler cannot know that the tile does not overlap x
      std::fill_n(tile.values + done, run, value);
    } else if (stride == 1) {
      std::copy_n(x + offset, run, tile.values + done);
    } else {
      for (std::int64_t i = 0; i < run; ++i) tile.values[done + i] = x[offset + i * stride];
    }
    done += run;
    index[last] += run;
    offset += run * stride;
    for (int d = last; d > 0 && index[d] == map.strided.size[d]; --d) {  // carry, as an odometer does
      offset += strides[d - 1] - index[d] * strides[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
  return tile.values;
}

/// The loop that all maps on the CPU end in. Nothing in it may keep the compiler from vectorising.
template <class F, class Out, class... In>
void map_contiguous(F f, std::int64_t count, Out* __restrict y, const In* __restrict... x) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<Out>(f(static_cast<Compute<In>>(x[i])...));
}

template <class F, class Out, class... In, std::size_t... k>
void map_on_cpu(const F& f, const MapLoop<sizeof...(In)>& map, std::index_sequence<k...>, Out* y, const In*... x) {
  if (map.all_contiguous()) {
    parallel_for(map.count, map_grain, [&](std::int64_t begin, std::int64_t end) {
      map_contiguous(f, end - begin, y + begin, x + begin...);
    });
    return;
  }
  parallel_for(map.count, map_grain, [&](std::int64_t begin, std::int64_t end) {
    std::tuple<Tile<In>...> tiles;
    for (std::int64_t start = begin; start < end; start += map_tile) {
      const std::int64_t count = std::min(map_tile, end - start);
      map_contiguous(f, count, y + start, read_tile(map, static_cast<int>(k), x, start, count, std::get<k>(tiles))...);
    }
  });
}

// ---- CUDA ----

#if VT_CUDA
/// Each thread takes `width` neighbours with one load per operand; the last count % width elements
/// go one by one.
template <int width, class F, class Out, class... In>
__global__ void map_contiguous_kernel(F f, std::int64_t count, Out* y, const In*... x) {
  const std::int64_t first = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t packs = count / width;
  const auto apply = [&f](Pack<In, width>... in) {
    Pack<Out, width> out;
#pragma unroll
    for (int j = 0; j < width; ++j) {
      out.values[j] = static_cast<Out>(f(static_cast<Compute<In>>(in.values[j])...));
    }
    return out;
  };
  for (std::int64_t i = first; i < packs; i += step) {
    write_pack(reinterpret_cast<Pack<Out, width>*>(y) + i,
               apply(read_pack(reinterpret_cast<const Pack<In, width>*>(x) + i)...));
  }
  for (std::int64_t i = packs * width + first; i < count; i += step) {
    y[i] = static_cast<Out>(f(static_cast<Compute<In>>(x[i])...));
  }
}

/// Index is 32 bits where the count allows, because 64-bit division is slow on a GPU.
template <class Index, class F, class Out, class... In, std::size_t... k>
__device__ void map_strided_element(const F& f, const MapLoop<sizeof...(In)>& map, Index i, std::index_sequence<k...>,
                                    Out* y, const In*... x) {
  std::int64_t offsets[sizeof...(In)] = {};
  Index rest = i;
  for (int d = map.strided.dims - 1; d >= 0; --d) {
    const Index size = static_cast<Index>(map.strided.size[d]);
    const Index index = rest % size;
    rest /= size;
    ((offsets[k] += index * map.strided.stride[k][d]), ...);
  }
  y[i] = static_cast<Out>(f(static_cast<Compute<In>>(x[offsets[k]])...));
}

template <class Index, class F, class Out, class... In>
__global__ void map_strided_kernel(F f, MapLoop<sizeof...(In)> map, Out* y, const In*... x) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < map.count; i += step) {
    map_strided_element(f, map, i, std::index_sequence_for<In...>{}, y, x...);
  }
}

template <class F, class Out, class... In>
void map_on_cuda(const F& f, const MapLoop<sizeof...(In)>& map, Out* y, const In*... x) {
  constexpr int width = static_cast<int>(16 / std::max({sizeof(Out), sizeof(In)...}));
  const auto is_aligned = [](auto* p) { return reinterpret_cast<std::uintptr_t>(p) % (width * sizeof(*p)) == 0; };
  const bool packed = map.all_contiguous() && is_aligned(y) && (is_aligned(x) && ...);
  constexpr int block = 256;
  const std::int64_t threads = packed ? (map.count + width - 1) / width : map.count;
  const dim3 grid = grid_for(threads, block);
  if (packed) {
    launch(map_contiguous_kernel<width, F, Out, In...>, grid, block, 0, current_stream(), f, map.count, y, x...);
  } else if (map.count < (std::int64_t{1} << 30)) {
    launch(map_strided_kernel<std::uint32_t, F, Out, In...>, grid, block, 0, current_stream(), f, map, y, x...);
  } else {
    launch(map_strided_kernel<std::int64_t, F, Out, In...>, grid, block, 0, current_stream(), f, map, y, x...);
  }
}
#endif

// ---- Both ----

/// The elements of x for the drivers. Booleans are read as the bytes 0 and 1: the compiler
/// vectorises loops over bytes.
template <class T>
auto elements(const Tensor& x) {
  using Element = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;
  return reinterpret_cast<const Element*>(x.data<T>());
}

/// y[i] = f(x[i]...) with x... broadcast to y's shape. y is row-major, of dtype Out, and shares no
/// element with x...; the dtypes of x... are In..., and all live on y's device.
template <class Out, class... In, class F, std::same_as<Tensor>... Tensors>
void map_into(const F& f, Tensor& y, const Tensors&... x) {
  static_assert(sizeof...(In) == sizeof...(Tensors), "one element type per operand");
  const auto map = make_map_loop(y.shape(), x...);
  if (map.count == 0) return;
  if (y.device().is_cpu()) {
    map_on_cpu(f, map, std::index_sequence_for<In...>{}, y.template data<Out>(), elements<In>(x)...);
    return;
  }
#if VT_CUDA
  map_on_cuda(f, map, y.template data<Out>(), elements<In>(x)...);
#endif
}

/// T, whatever the other type is: gives a pack of operands one element type.
template <class T, class Other>
struct AlwaysType {
  using type = T;
};
template <class T, class Other>
using Always = typename AlwaysType<T, Other>::type;

/// Throws unless both are on one device.
inline void check_one_device(const char* op, const Tensor& first, const Tensor& other) {
  VT_CHECK(other.device() == first.device(), "{}: operands of shapes {} and {} are on {} and {}, expected one device",
           op, to_string(first.shape()), to_string(other.shape()), to_string(first.device()),
           to_string(other.device()));
}

/// Throws unless the operands are defined and share one dtype and one device.
template <std::same_as<Tensor>... Rest>
void check_operands(const char* op, const Tensor& first, const Rest&... rest) {
  VT_CHECK((first.defined() && ... && rest.defined()), "{}: an operand is an undefined tensor", op);
  [[maybe_unused]] const auto check = [&](const Tensor& other) {
    VT_CHECK(other.dtype() == first.dtype(),
             "{}: operands of shapes {} and {} have dtypes {} and {}, expected one dtype", op, to_string(first.shape()),
             to_string(other.shape()), name_of(first.dtype()), name_of(other.dtype()));
    check_one_device(op, first, other);
  };
  (check(rest), ...);
}

/// The shape that all operands broadcast to.
template <std::same_as<Tensor>... Rest>
Shape broadcast_operands([[maybe_unused]] const char* op, const Tensor& first, const Rest&... rest) {
  Shape shape = first.shape();
  ((shape = broadcast_shapes(shape, rest.shape(), op)), ...);
  return shape;
}

/// f over operands of one floating dtype, broadcast together: all of the forward pass of most
/// elementwise ops.
template <class F, std::same_as<Tensor>... Rest>
Tensor map_floating(const char* op, const F& f, const Tensor& x, const Rest&... rest) {
  check_operands(op, x, rest...);
  return dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    Tensor y = empty(broadcast_operands(op, x, rest...), x.dtype(), x.device());
    map_into<T, T, Always<T, Rest>...>(f, y, x, rest...);
    return y;
  });
}

/// The same for floating dtypes, i32 and i64.
template <class F, std::same_as<Tensor>... Rest>
Tensor map_numeric(const char* op, const F& f, const Tensor& x, const Rest&... rest) {
  check_operands(op, x, rest...);
  return dispatch_numeric(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    Tensor y = empty(broadcast_operands(op, x, rest...), x.dtype(), x.device());
    map_into<T, T, Always<T, Rest>...>(f, y, x, rest...);
    return y;
  });
}

}  // namespace vitrine
