// Pooling of images (B, C, H, W) by square windows.
//
// Both directions gather: a thread owns what it writes, and walks the windows of one pixel, or the
// pixels of one window, in row-major order.
#include <limits>

#include "ops/drivers/elementwise.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

/// Windows in one plane: `rows` x `columns` of kernel x kernel pixels, `stride` apart, the first at
/// (-padding, -padding).
struct Windows {
  std::int64_t height, width, kernel, stride, padding, rows, columns;

  VT_HD std::int64_t pixels() const { return height * width; }
  VT_HD std::int64_t count() const { return rows * columns; }

  /// Calls body(pixel) for the pixels of a window inside the plane.
  template <class Body>
  VT_HD void for_each_pixel(std::int64_t window, const Body& body) const {
    const std::int64_t top = window / columns * stride - padding, left = window % columns * stride - padding;
    for (std::int64_t y = top < 0 ? 0 : top; y < top + kernel && y < height; ++y) {
      for (std::int64_t x = left < 0 ? 0 : left; x < left + kernel && x < width; ++x) body(y * width + x);
    }
  }

  /// Calls body(window) for the windows that a pixel lies in.
  template <class Body>
  VT_HD void for_each_window(std::int64_t pixel, const Body& body) const {
    const std::int64_t y = pixel / width + padding,
                       x = pixel % width + padding;  // counted from the first window's corner
    for (std::int64_t row = first_around(y); row < rows && row * stride <= y; ++row) {
      for (std::int64_t column = first_around(x); column < columns && column * stride <= x; ++column) {
        body(row * columns + column);
      }
    }
  }

 private:
  /// The first i with i stride + kernel > position.
  VT_HD std::int64_t first_around(std::int64_t position) const {
    return position < kernel ? 0 : (position - kernel) / stride + 1;
  }
};

/// x (B, C, H, W) and its windows; `planes` is B C.
struct Pooling {
  Shape x_shape, y_shape;
  std::int64_t planes;
  Windows windows;
};

Pooling make_pooling(const char* op, const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  VT_CHECK(x.defined() && is_floating(x.dtype()) && x.dim() == 4 && x.size(2) > 0 && x.size(3) > 0,
           "{}: x has shape {} and dtype {}, expected (B, C, H, W) of f32, f64 or bf16 with H and W above 0", op,
           to_string(x.shape()), name_of(x.dtype()));
  VT_CHECK(kernel >= 1 && stride >= 1 && padding >= 0 && 2 * padding <= kernel,
           "{}: kernel is {}, stride {} and padding {}, expected at least 1, 1 and 0, and padding at most kernel / 2",
           op, kernel, stride, padding);
  const std::int64_t H = x.size(2), W = x.size(3);
  VT_CHECK(H + 2 * padding >= kernel && W + 2 * padding >= kernel,
           "{}: x {} with padding {} is smaller than the kernel {}", op, to_string(x.shape()), padding, kernel);
  const std::int64_t rows = (H + 2 * padding - kernel) / stride + 1, columns = (W + 2 * padding - kernel) / stride + 1;
  return {x.shape(),
          {x.size(0), x.size(1), rows, columns},
          x.size(0) * x.size(1),
          {H, W, kernel, stride, padding, rows, columns}};
}

// ---- Drivers: function(plane, i) for the `size` elements i of each plane ----

#if VT_CUDA
template <class Function>
__global__ void planes_kernel(Function function, std::int64_t planes, std::int64_t size) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < planes * size;
       at += step) {
    function(at / size, at % size);
  }
}
#endif

template <class Function>
void for_each_element([[maybe_unused]] Device device, std::int64_t planes, std::int64_t size,
                      const Function& function) {
  if (planes * size == 0) return;
#if VT_CUDA
  if (device.is_cuda()) {
    return launch(planes_kernel<Function>, grid_for(planes * size, 256), dim3(256), 0, current_stream(), function,
                  planes, size);
  }
#endif
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 12) / size);
  parallel_for(planes, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      for (std::int64_t i = 0; i < size; ++i) function(plane, i);
    }
  });
}

}  // namespace

// ---- max_pool2d: y = x at the index of each window's largest element ----
//
// First those indices are found, then the elements are taken. Taking elements at indices, and
// adding dy to the elements at the same indices, are each the other's gradient.

namespace {

/// index (B, C, H', W') = row-major index in its plane of each window's first largest element; NaN
/// is the largest
template <class T>
struct FindLargest {
  Windows windows;
  const T* x;
  std::int64_t* index;

  VT_HD void operator()(std::int64_t plane, std::int64_t window) const {
    const T* in = x + plane * windows.pixels();
    std::int64_t best = -1;
    Compute<T> largest = 0;
    windows.for_each_pixel(window, [&](std::int64_t pixel) {
      const auto value = static_cast<Compute<T>>(in[pixel]);
      if (best < 0 || value > largest || (value != value && largest == largest)) {
        best = pixel;
        largest = value;
      }
    });
    index[plane * windows.count() + window] = best;
  }
};

/// y = the elements of x at `index`
template <class T>
struct Take {
  Windows windows;
  const T* x;
  const std::int64_t* index;
  T* y;

  VT_HD void operator()(std::int64_t plane, std::int64_t window) const {
    const std::int64_t at = plane * windows.count() + window;
    y[at] = x[plane * windows.pixels() + index[at]];
  }
};

/// dx = for each pixel the sum of the dy of the windows that took it
template <class T>
struct PutBack {
  Windows windows;
  const T* dy;
  const std::int64_t* index;
  T* dx;

  VT_HD void operator()(std::int64_t plane, std::int64_t pixel) const {
    Compute<T> sum = 0;
    windows.for_each_window(pixel, [&](std::int64_t window) {
      const std::int64_t at = plane * windows.count() + window;
      if (index[at] == pixel) sum += static_cast<Compute<T>>(dy[at]);
    });
    dx[plane * windows.pixels() + pixel] = static_cast<T>(sum);
  }
};

Tensor put_back(const Pooling& pooling, const Tensor& dy, const Tensor& index);

Tensor take(const char* op, const Pooling& pooling, const Tensor& x, const Tensor& index) {
  Tensor y = empty(pooling.y_shape, x.dtype(), x.device());
  dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    const Tensor rows = contiguous_data(x);
    const Take<T> function{pooling.windows, rows.data<T>(), index.data<std::int64_t>(), y.data<T>()};
    for_each_element(x.device(), pooling.planes, pooling.windows.count(), function);
  });
  return record(op, y, {x}, [pooling, index](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, put_back(pooling, dy, index));
  });
}

Tensor put_back(const Pooling& pooling, const Tensor& dy, const Tensor& index) {
  const char* op = "max_pool2d_backward";
  Tensor dx = empty(pooling.x_shape, dy.dtype(), dy.device());
  dispatch_floating(dy.dtype(), op, [&]<class T>(TypeTag<T>) {
    const Tensor rows = contiguous_data(dy);
    const PutBack<T> function{pooling.windows, rows.data<T>(), index.data<std::int64_t>(), dx.data<T>()};
    for_each_element(dy.device(), pooling.planes, pooling.windows.pixels(), function);
  });
  return record(op, dx, {dy}, [pooling, index](const Tensor& d, BackwardContext& context) {
    if (context.wants(0)) context.add(0, take("max_pool2d_backward", pooling, d, index));
  });
}

}  // namespace

Tensor max_pool2d(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  const Pooling pooling = make_pooling("max_pool2d", x, kernel, stride, padding);
  Tensor index = empty(pooling.y_shape, DType::i64, x.device());
  dispatch_floating(x.dtype(), "max_pool2d", [&]<class T>(TypeTag<T>) {
    const Tensor rows = contiguous_data(x);
    const FindLargest<T> function{pooling.windows, rows.data<T>(), index.data<std::int64_t>()};
    for_each_element(x.device(), pooling.planes, pooling.windows.count(), function);
  });
  return take("max_pool2d", pooling, x, index);
}

// ---- avg_pool2d: y = sum of the window / kernel^2, dx = sum of the windows' dy / kernel^2 ----
//
// Each is the other's gradient.

namespace {

/// y = scale times the sum of the pixels of each window
template <class T>
struct SumPixels {
  Windows windows;
  const T* x;
  T* y;
  Compute<T> scale;

  VT_HD void operator()(std::int64_t plane, std::int64_t window) const {
    Compute<T> sum = 0;
    windows.for_each_pixel(
        window, [&](std::int64_t pixel) { sum += static_cast<Compute<T>>(x[plane * windows.pixels() + pixel]); });
    y[plane * windows.count() + window] = static_cast<T>(sum * scale);
  }
};

/// dx = scale times the sum of dy over the windows of each pixel
template <class T>
struct SumWindows {
  Windows windows;
  const T* dy;
  T* dx;
  Compute<T> scale;

  VT_HD void operator()(std::int64_t plane, std::int64_t pixel) const {
    Compute<T> sum = 0;
    windows.for_each_window(
        pixel, [&](std::int64_t window) { sum += static_cast<Compute<T>>(dy[plane * windows.count() + window]); });
    dx[plane * windows.pixels() + pixel] = static_cast<T>(sum * scale);
  }
};

/// `backward` says which of the two; the other is its gradient.
Tensor average(const char* op, const Pooling& pooling, const Tensor& x, bool backward) {
  Tensor y = empty(backward ? pooling.x_shape : pooling.y_shape, x.dtype(), x.device());
  const Windows& windows = pooling.windows;
  dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    const Tensor rows = contiguous_data(x);
    const Compute<T> scale = Compute<T>(1) / static_cast<Compute<T>>(windows.kernel * windows.kernel);
    if (backward) {
      const SumWindows<T> function{windows, rows.data<T>(), y.data<T>(), scale};
      for_each_element(x.device(), pooling.planes, windows.pixels(), function);
    } else {
      const SumPixels<T> function{windows, rows.data<T>(), y.data<T>(), scale};
      for_each_element(x.device(), pooling.planes, windows.count(), function);
    }
  });
  return record(op, y, {x}, [=](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0))
      context.add(0, average(backward ? "avg_pool2d" : "avg_pool2d_backward", pooling, dy, !backward));
  });
}

}  // namespace

Tensor avg_pool2d(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  return average("avg_pool2d", make_pooling("avg_pool2d", x, kernel, stride, padding), x, false);
}

}  // namespace vitrine
