// Windows of feature maps: images (B, H, W, C), cut into squares that attention treats one by one.
// Liu et al. 2021, "Swin transformer: hierarchical vision transformer using shifted windows",
// section 3.2. Without a shift both ops are views and one copy; with one they are a copy of their
// own, since a map that is rolled round is no view.
#include <cstring>
#include <limits>

#include "ops/drivers/elementwise.h"
#include "ops/ops.h"
#include "tensor/device/packs.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

/// Windows of maps that are rolled by -shift along H and W.
struct ShiftedWindows {
  std::int64_t H, W, window, shift;

  /// The pixel, row-major over (B, H, W), that is this token, row-major over (B, H/w, W/w, w, w).
  template <class Index>
  VT_HD Index pixel(Index token) const {
    const auto h = static_cast<Index>(H), w = static_cast<Index>(W), side = static_cast<Index>(window);
    const Index inside = token % (side * side), cut = token / (side * side), columns = w / side, rows = h / side;
    const Index y = cut / columns % rows * side + inside / side + static_cast<Index>(shift);
    const Index x = cut % columns * side + inside % side + static_cast<Index>(shift);
    return (cut / columns / rows * h + y % h) * w + x % w;
  }
};

/// Copies tokens of `bytes` each; `back` from the windows to the maps.
void move_on_cpu(const ShiftedWindows& map, bool back, std::int64_t tokens, std::size_t bytes, const std::byte* from,
                 std::byte* to) {
  parallel_for(tokens, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const std::int64_t pixel = map.pixel(token), source = back ? token : pixel, target = back ? pixel : token;
      std::memcpy(to + static_cast<std::size_t>(target) * bytes, from + static_cast<std::size_t>(source) * bytes,
                  bytes);
    }
  });
}

#if VT_CUDA
/// A token is `units` of type Unit.
template <class Unit, class Index>
__global__ void move_kernel(ShiftedWindows map, bool back, Index units, Index count, const Unit* from, Unit* to) {
  const Index step = gridDim.x * blockDim.x;
  for (Index i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    const Index there = map.pixel(i / units) * units + i % units;
    if (back) {
      to[there] = from[i];
    } else {
      to[i] = from[there];
    }
  }
}

template <class Unit>
void launch_move(const ShiftedWindows& map, bool back, std::int64_t units, std::int64_t count, const void* from,
                 void* to) {
  const auto start = [&]<class Index>(Index) {
    launch(move_kernel<Unit, Index>, grid_for(count, 256), dim3(256), 0, current_stream(), map, back,
           static_cast<Index>(units), static_cast<Index>(count), static_cast<const Unit*>(from),
           static_cast<Unit*>(to));
  };
  count < std::numeric_limits<std::int32_t>::max() / 2 ? start(std::uint32_t{}) : start(std::int64_t{});
}

/// With the largest unit that divides a token.
void move_on_cuda(const ShiftedWindows& map, bool back, std::int64_t tokens, std::int64_t bytes, const void* from,
                  void* to) {
  const auto move_by = [&]<class Unit>(Unit) {
    constexpr std::int64_t size = sizeof(Unit);
    if (bytes % size != 0 || !are_aligned(sizeof(Unit), from, to)) return false;
    launch_move<Unit>(map, back, bytes / size, tokens * (bytes / size), from, to);
    return true;
  };
  (void)(move_by(uint4{}) || move_by(uint2{}) || move_by(std::uint32_t{}) || move_by(std::uint16_t{}) ||
         move_by(std::uint8_t{}));
}
#endif

/// x (B, H, W, C) -> (B H/w W/w, w w, C), or back.
Tensor move_windows(const Tensor& strided, const ShiftedWindows& map, bool back, const Shape& shape) {
  const Tensor x = contiguous_data(strided);
  Tensor y = empty_for(back ? "window_reverse" : "window_partition", shape, x.dtype(), x.device());
  if (x.numel() == 0) return y;
  const std::int64_t tokens = x.numel() / x.size(-1);
  const auto bytes = x.size(-1) * static_cast<std::int64_t>(size_of(x.dtype()));
#if VT_CUDA
  if (x.device().is_cuda()) {
    move_on_cuda(map, back, tokens, bytes, x.raw_data(), y.raw_data());
    return y;
  }
#endif
  move_on_cpu(map, back, tokens, static_cast<std::size_t>(bytes), static_cast<const std::byte*>(x.raw_data()),
              static_cast<std::byte*>(y.raw_data()));
  return y;
}

void check_shift(const char* op, std::int64_t shift, std::int64_t H, std::int64_t W) {
  VT_CHECK(shift >= 0 && shift <= H && shift <= W, "{}: shift is {}, expected 0 to {}, the smaller side", op, shift,
           std::min(H, W));
}

}  // namespace

// ---- window_partition: (B, H, W, C) -> (B H/w W/w, w w, C); image, row of windows, column of
// windows, then pixels ----

Tensor window_partition(const Tensor& x, std::int64_t window, std::int64_t shift) {
  VT_CHECK(x.dim() == 4 && window >= 1 && x.size(1) % window == 0 && x.size(2) % window == 0,
           "window_partition: x has shape {} and window is {}, expected (B, H, W, C) with H and W multiples of window",
           to_string(x.shape()), window);
  const std::int64_t B = x.size(0), H = x.size(1), W = x.size(2), C = x.size(3);
  const std::int64_t rows = H / window, columns = W / window;
  check_shift("window_partition", shift, H, W);
  const Shape shape{B * rows * columns, window * window, C};
  if (shift > 0) {
    return record(
        "window_partition", move_windows(x, {H, W, window, shift}, false, shape), {x},
        [=](const Tensor& dy, BackwardContext& context) { context.add(0, window_reverse(dy, window, H, W, shift)); });
  }
  return reshape(permute(reshape(x, {B, rows, window, columns, window, C}), {0, 1, 3, 2, 4, 5}), shape);
}

// ---- window_reverse: the inverse of window_partition, (B H/w W/w, w w, C) -> (B, H, W, C) ----

Tensor window_reverse(const Tensor& windows, std::int64_t window, std::int64_t H, std::int64_t W, std::int64_t shift) {
  VT_CHECK(window >= 1 && H >= 1 && W >= 1 && H % window == 0 && W % window == 0,
           "window_reverse: window is {} for H {} and W {}, expected sizes above 0, H and W multiples of window",
           window, H, W);
  const std::int64_t rows = H / window, columns = W / window;
  VT_CHECK(windows.dim() == 3 && windows.size(0) % (rows * columns) == 0 && windows.size(1) == window * window,
           "window_reverse: windows have shape {}, expected ({} B, {}, C)", to_string(windows.shape()), rows * columns,
           window * window);
  check_shift("window_reverse", shift, H, W);
  const std::int64_t B = windows.size(0) / (rows * columns), C = windows.size(2);
  const Shape shape{B, H, W, C};
  if (shift > 0) {
    return record(
        "window_reverse", move_windows(windows, {H, W, window, shift}, true, shape), {windows},
        [=](const Tensor& dy, BackwardContext& context) { context.add(0, window_partition(dy, window, shift)); });
  }
  return reshape(permute(reshape(windows, {B, rows, columns, window, window, C}), {0, 1, 3, 2, 4, 5}), shape);
}

}  // namespace vitrine
