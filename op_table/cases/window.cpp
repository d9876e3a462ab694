// Rows of window_partition and window_reverse.
#include "op_table/moves.h"

namespace vitrine {
namespace {

OpCase partitioned(const char* name, const Shape& shape, std::int64_t w, std::int64_t shift = 0) {
  const std::int64_t H = shape[1], W = shape[2], rows = H / w, columns = W / w, C = shape[3];
  return moved(
      name, shape, {shape[0] * rows * columns, w * w, C},
      [=](const Tensors& x) { return window_partition(x[0], w, shift); },
      [=](const Dims& i) {
        const std::int64_t image = i[0] / (rows * columns), row = i[0] / columns % rows, column = i[0] % columns;
        return Dims{image, (row * w + i[1] / w + shift) % H, (column * w + i[1] % w + shift) % W, i[2]};
      });
}

OpCase reversed(const char* name, const Shape& shape, std::int64_t w, std::int64_t shift = 0) {
  const std::int64_t H = shape[1], W = shape[2], rows = H / w, columns = W / w;
  return moved(
      name, {shape[0] * rows * columns, w * w, shape[3]}, shape,
      [=](const Tensors& x) { return window_reverse(x[0], w, H, W, shift); },
      [=](const Dims& i) {
        const std::int64_t y = (i[1] - shift + H) % H, x = (i[2] - shift + W) % W;
        return Dims{(i[0] * rows + y / w) * columns + x / w, y % w * w + x % w, i[3]};
      });
}

std::function<OpBenchmark()> one_copy(const Shape& shape, const Call& call) {
  return [=] {
    const Tensor x = cast(test_values(shape, 3), DType::f32);
    return OpBenchmark{to_string(shape), {x}, call, 0, 2 * 4.0 * static_cast<double>(x.numel())};
  };
}

// clang-format off
OpRow partition_row() {
  return row("window_partition",
             {partitioned("two by three windows", {2, 4, 6, 3}, 2), partitioned("one window", {1, 3, 3, 2}, 3),
              partitioned("windows of one pixel", {2, 2, 3, 1}, 1), partitioned("no images", {0, 4, 4, 2}, 2),
              partitioned("shifted", {2, 4, 6, 3}, 2, 1), partitioned("shifted by a window and more", {1, 6, 9, 2}, 3, 4),
              partitioned("shifted round", {1, 4, 2, 4}, 2, 2), partitioned("packs of 16 bytes, shifted", {1, 4, 4, 8}, 2, 1),
              partitioned("no images, shifted", {0, 4, 4, 2}, 2, 1)},
             {{[] { window_partition(zeros({1, 8, 9, 2}), 4); },
               "window_partition: x has shape (1, 8, 9, 2) and window is 4, expected (B, H, W, C) with H and W multiples"},
              {[] { window_partition(zeros({8, 8, 2}), 4); }, "window_partition: x has shape (8, 8, 2)"},
              {[] { window_partition(zeros({1, 8, 8, 2}), 0); }, "window is 0"},
              {[] { window_partition(zeros({1, 8, 4, 2}), 4, 5); }, "window_partition: shift is 5, expected 0 to 4"}},
             one_copy({32, 56, 56, 96}, [](const Tensors& x) { return window_partition(x[0], 7); }));
}

OpRow reverse_row() {
  return row("window_reverse",
             {reversed("two by three windows", {2, 4, 6, 3}, 2), reversed("one window", {1, 3, 3, 2}, 3),
              reversed("windows of one pixel", {2, 2, 3, 1}, 1), reversed("no images", {0, 4, 4, 2}, 2),
              reversed("shifted", {2, 4, 6, 3}, 2, 1), reversed("shifted by a window and more", {1, 6, 9, 2}, 3, 4),
              reversed("shifted round", {1, 4, 2, 4}, 2, 2), reversed("packs of 16 bytes, shifted", {1, 4, 4, 8}, 2, 1),
              reversed("no images, shifted", {0, 4, 4, 2}, 2, 1)},
             {{[] { window_reverse(zeros({4, 16, 2}), 4, 8, 9); }, "window_reverse: window is 4 for H 8 and W 9"},
              {[] { window_reverse(zeros({3, 16, 2}), 4, 8, 8); },
               "window_reverse: windows have shape (3, 16, 2), expected (4 B, 16, C)"},
              {[] { window_reverse(zeros({4, 15, 2}), 4, 8, 8); }, "windows have shape (4, 15, 2)"},
              {[] { window_reverse(zeros({4, 16, 2}), 0, 8, 8); }, "window is 0"},
              {[] { window_reverse(zeros({4, 16, 2}), 4, 8, 8, -1); }, "window_reverse: shift is -1, expected 0 to 8"}},
             one_copy({2048, 49, 96}, [](const Tensors& x) { return window_reverse(x[0], 7, 56, 56); }));
}
// clang-format on

}  // namespace

std::vector<OpRow> window_rows() { return {partition_row(), reverse_row()}; }

}  // namespace vitrine
