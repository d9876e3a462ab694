// Resizing of images (B, C, H, W), one axis after the other: each is a product with a banded
// matrix, whose transpose is the gradient.
#include <cmath>
#include <vector>

#include "ops/drivers/elementwise.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

// ---- The matrix of one axis ----

/// Keys 1981, "Cubic convolution interpolation for digital image processing", equation 15; a is its
/// free parameter.
double cubic(double x, double a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

/// Row `o` of the matrix: the weights of the `from` input pixels in output pixel `o` of `to`.
std::vector<double> weights_of_output(std::int64_t o, std::int64_t from, std::int64_t to, InterpolationMode mode,
                                      bool antialias) {
  std::vector<double> row(static_cast<std::size_t>(from), 0.0);
  const double step = static_cast<double>(from) / static_cast<double>(to);
  const double center = (static_cast<double>(o) + 0.5) * step;  // in pixels; that of pixel i is i + 0.5
  const double stretch = antialias ? std::max(1.0, step) : 1.0;
  const double radius = (mode == InterpolationMode::bicubic ? 2 : 1) * stretch;
  double total = 0;
  const auto first = static_cast<std::int64_t>(std::floor(center - radius));
  const auto last = static_cast<std::int64_t>(std::ceil(center + radius));
  for (std::int64_t i = first; i <= last; ++i) {
    if (antialias && (i < 0 || i >= from)) continue;  // the weights inside are scaled up instead
    const double distance = (static_cast<double>(i) + 0.5 - center) / stretch;
    const double weight =
        mode == InterpolationMode::bicubic ? cubic(distance, antialias ? -0.5 : -0.75) : triangle(distance);
    row[static_cast<std::size_t>(std::clamp<std::int64_t>(i, 0, from - 1))] +=
        weight;  // beyond the edge: its last pixel
    total += weight;
  }
  for (double& weight : row) weight /= total;
  return row;
}

/// A matrix (outputs, inputs) that is zero but for `width` neighbours in each row: row o holds
/// weight (o, k) at first[o] + k.
struct Band {
  std::int64_t outputs = 0, inputs = 0, width = 0;
  Tensor first;   // (outputs) i64
  Tensor weight;  // (outputs, width)
};

Band make_band(const std::vector<std::vector<double>>& rows, std::int64_t inputs, DType dtype, Device device) {
  const auto outputs = static_cast<std::int64_t>(rows.size());
  std::vector<std::int64_t> first(rows.size(), 0);
  std::int64_t width = 1;
  for (std::size_t o = 0; o < rows.size(); ++o) {
    std::int64_t begin = 0, end = inputs;
    while (end > begin && rows[o][static_cast<std::size_t>(end - 1)] == 0) --end;
    while (begin < end && rows[o][static_cast<std::size_t>(begin)] == 0) ++begin;
    first[o] = begin;
    width = std::max(width, end - begin);
  }
  std::vector<double> weight;
  for (std::size_t o = 0; o < rows.size(); ++o) {
    first[o] = std::min(first[o], inputs - width);  // so that every row has `width` pixels
    const auto begin = rows[o].begin() + first[o];
    weight.insert(weight.end(), begin, begin + width);
  }
  return {outputs, inputs, width, to_device(from_vector(first, {outputs}), device),
          to_device(cast_data(from_vector(weight, {outputs, width}), dtype), device)};
}

/// The matrix of an axis, and its transpose.
struct Resampling {
  Band forward, backward;
};

Resampling make_resampling(std::int64_t from, std::int64_t to, InterpolationMode mode, bool antialias, DType dtype,
                           Device device) {
  std::vector<std::vector<double>> rows;
  std::vector<std::vector<double>> transposed(static_cast<std::size_t>(from));
  for (std::int64_t o = 0; o < to; ++o) rows.push_back(weights_of_output(o, from, to, mode, antialias));
  for (std::size_t i = 0; i < transposed.size(); ++i) {
    for (const auto& row : rows) transposed[i].push_back(row[i]);
  }
  return {make_band(rows, from, dtype, device), make_band(transposed, to, dtype, device)};
}

// ---- Its product with images x (outer, inputs, inner) -> y (outer, outputs, inner) ----

template <class T>
VT_HD T resample_element(const T* x, std::int64_t inner, const T* weight, std::int64_t width) {
  T sum = 0;
  for (std::int64_t k = 0; k < width; ++k) sum += weight[k] * x[k * inner];
  return sum;
}

template <class T>
void resample_cpu(const T* x, const std::int64_t* first, const T* weight, T* y, std::int64_t outer, std::int64_t inner,
                  std::int64_t inputs, std::int64_t outputs, std::int64_t width) {
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 12) / (width * inner));
  parallel_for(outer * outputs, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t o = row % outputs;
      const T* in = x + (row / outputs * inputs + first[o]) * inner;
      for (std::int64_t i = 0; i < inner; ++i) {
        y[row * inner + i] = resample_element(in + i, inner, weight + o * width, width);
      }
    }
  });
}

#if VT_CUDA
template <class T>
__global__ void resample_kernel(const T* x, const std::int64_t* first, const T* weight, T* y, std::int64_t outer,
                                std::int64_t inner, std::int64_t inputs, std::int64_t outputs, std::int64_t width) {
  const std::int64_t count = outer * outputs * inner, step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < count; at += step) {
    const std::int64_t row = at / inner, o = row % outputs;
    const T* in = x + (row / outputs * inputs + first[o]) * inner + at % inner;
    y[at] = resample_element(in, inner, weight + o * width, width);
  }
}
#endif

/// Along `dim` of x (f32 or f64), by resampling.forward, or by its transpose.
Tensor resample(const Tensor& x, int dim, const Resampling& resampling, bool transposed) {
  const char* op = transposed ? "interpolate_backward" : "interpolate";
  const Band& band = transposed ? resampling.backward : resampling.forward;
  const Tensor rows = contiguous_data(x);
  Shape shape = x.shape();
  shape[dim] = band.outputs;
  Tensor y = empty(shape, x.dtype(), x.device());
  std::int64_t outer = 1, inner = 1;
  for (int d = 0; d < x.dim(); ++d) (d < dim ? outer : inner) *= d == dim ? 1 : x.size(d);
  const auto run = [&]<class T>(TypeTag<T>) {
    const T *in = rows.data<T>(), *weight = band.weight.data<T>();
    const auto* first = band.first.data<std::int64_t>();
#if VT_CUDA
    if (x.device().is_cuda()) {
      return launch(resample_kernel<T>, grid_for(y.numel(), 256), dim3(256), 0, current_stream(), in, first, weight,
                    y.data<T>(), outer, inner, band.inputs, band.outputs, band.width);
    }
#endif
    resample_cpu<T>(in, first, weight, y.data<T>(), outer, inner, band.inputs, band.outputs, band.width);
  };
  if (y.numel() > 0) x.dtype() == DType::f64 ? run(TypeTag<double>{}) : run(TypeTag<float>{});
  return record(op, y, {x}, [=](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, resample(dy, dim, resampling, !transposed));
  });
}

}  // namespace

// ---- The op: columns of pixels, then rows; bf16 is computed in f32 ----

Tensor interpolate(const Tensor& x, std::int64_t height, std::int64_t width, InterpolationMode mode, bool antialias) {
  VT_CHECK(x.defined() && is_floating(x.dtype()) && x.dim() == 4 && x.size(2) > 0 && x.size(3) > 0,
           "interpolate: x has shape {} and dtype {}, expected (B, C, H, W) of f32, f64 or bf16 with H and W above 0",
           to_string(x.shape()), name_of(x.dtype()));
  VT_CHECK(height > 0 && width > 0, "interpolate: height is {} and width {}, expected sizes above 0", height, width);
  const DType dtype = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const auto along = [&](const Tensor& image, int dim, std::int64_t size) {
    return resample(image, dim, make_resampling(image.size(dim), size, mode, antialias, dtype, x.device()), false);
  };
  return cast(along(along(cast(x, dtype), 2, height), 3, width), x.dtype());
}

}  // namespace vitrine
