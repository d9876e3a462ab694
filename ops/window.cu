// Windows of feature maps: images (B, H, W, C), cut into squares that attention treats one by one. Liu et al. 2021, "Swin
// transformer: hierarchical vision transformer using shifted windows", section 3.2. Both ops are views and one copy.
#include "ops/ops.h"

namespace vitrine {

// ---- window_partition: (B, H, W, C) -> (B H/w W/w, w w, C); image, row of windows, column of windows, then pixels ----

Tensor window_partition(const Tensor& x, std::int64_t window) {
  VT_CHECK(x.dim() == 4 && window >= 1 && x.size(1) % window == 0 && x.size(2) % window == 0,
           "window_partition: x has shape {} and window is {}, expected (B, H, W, C) with H and W multiples of window",
           to_string(x.shape()), window);
  const std::int64_t B = x.size(0), C = x.size(3), rows = x.size(1) / window, columns = x.size(2) / window;
  const Tensor cut = reshape(x, {B, rows, window, columns, window, C});
  return reshape(permute(cut, {0, 1, 3, 2, 4, 5}), {B * rows * columns, window * window, C});
}

// ---- window_reverse: the inverse of window_partition, (B H/w W/w, w w, C) -> (B, H, W, C) ----

Tensor window_reverse(const Tensor& windows, std::int64_t window, std::int64_t H, std::int64_t W) {
  VT_CHECK(window >= 1 && H >= 1 && W >= 1 && H % window == 0 && W % window == 0,
           "window_reverse: window is {} for H {} and W {}, expected sizes above 0, H and W multiples of window",
           window, H, W);
  const std::int64_t rows = H / window, columns = W / window;
  VT_CHECK(windows.dim() == 3 && windows.size(0) % (rows * columns) == 0 && windows.size(1) == window * window,
           "window_reverse: windows have shape {}, expected ({} B, {}, C)", to_string(windows.shape()), rows * columns,
           window * window);
  const std::int64_t B = windows.size(0) / (rows * columns), C = windows.size(2);
  const Tensor cut = reshape(windows, {B, rows, columns, window, window, C});
  return reshape(permute(cut, {0, 1, 3, 2, 4, 5}), {B, H, W, C});
}

}  // namespace vitrine
