// The sum of squares in two stages: one partial sum for each block of fixed size, then their sum in order.
#include "optim/squared_norm.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "ops/drivers/warp.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

constexpr std::int64_t block_size = 1 << 15;  // elements
constexpr double torch_epsilon = 1e-6;        // added to the norm that clipping divides by

VT_HD inline bool is_finite(double x) { return x - x == 0; }

/// Fills the statistics from the sum of squares; `loss` may be null.
VT_HD inline void decide(double total, double max_norm, const double* loss, double* statistics) {
  const double factor = max_norm / (std::sqrt(total) + torch_epsilon);
  statistics[gradient_norm_squared] = total;
  statistics[gradient_factor] = max_norm > 0 && factor < 1 ? factor : 1;
  // The count stays above zero, so that later updates are left out too until the host has heard of it.
  const bool good = is_finite(total) && (!loss || is_finite(*loss)) && statistics[updates_left_out] == 0;
  if (!good) statistics[updates_left_out] += 1;
}

// ---- CPU: eight running sums for each block, so that the loop vectorises ----

template <class T>
double sum_of_squares(const T* x, std::int64_t count) {
  constexpr int lanes = 8;
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(x[i + lane]) * x[i + lane];
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(x[i]) * x[i];
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

template <class T>
void block_sums_cpu(const T* x, std::int64_t count, double* sums) {
  parallel_for(count, block_size, [&](std::int64_t begin, std::int64_t end) {
    sums[begin / block_size] = sum_of_squares(x + begin, end - begin);
  });
}

// ---- CUDA: one thread block for each block of elements ----

#if VT_CUDA
constexpr int threads = 256;

template <class T>
__global__ void block_sums_kernel(const T* x, std::int64_t count, double* sums) {
  __shared__ double partial[threads];
  const std::int64_t begin = blockIdx.x * block_size;
  const std::int64_t end = begin + block_size < count ? begin + block_size : count;
  double sum = 0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += threads) sum += static_cast<double>(x[i]) * x[i];
  partial[threadIdx.x] = sum;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

/// Joins the sums of the blocks, and decides about the update.
__global__ void decide_kernel(const double* sums, std::int64_t count, double max_norm, const double* loss,
                              double* statistics) {
  const double total = warp_sum<double>(count, [&](std::int64_t i) { return sums[i]; });
  if (threadIdx.x == 0) decide(total, max_norm, loss, statistics);
}
#endif

/// The blocks' sums for one segment of x, into `sums` on x's device.
template <class T>
void block_sums(const T* x, std::int64_t count, double* sums, Device device) {
  const std::int64_t blocks = chunk_count(count, block_size);
  if (blocks == 0) return;
#if VT_CUDA
  if (device.is_cuda()) {
    launch(block_sums_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(threads), 0, current_stream(), x, count,
           sums);
    return;
  }
#endif
  (void)device;
  block_sums_cpu(x, count, sums);
}

}  // namespace

void measure_gradients(const Tensor& gradients, const std::vector<ArenaSegment>& segments, double max_norm,
                       const Tensor& loss, Tensor& statistics) {
  std::int64_t blocks = 0;
  for (const ArenaSegment& s : segments) blocks += chunk_count(s.end - s.begin, block_size);
  Tensor sums = empty({blocks}, DType::f64, gradients.device());
  double* next = sums.data<double>();
  for (const ArenaSegment& s : segments) {
    const std::int64_t count = s.end - s.begin;
    if (gradients.dtype() == DType::f32) {
      block_sums(gradients.data<float>() + s.begin, count, next, gradients.device());
    } else {
      block_sums(gradients.data<double>() + s.begin, count, next, gradients.device());
    }
    next += chunk_count(count, block_size);
  }
  double* result = statistics.data<double>();
  const double* checked = loss.defined() ? loss.data<double>() : nullptr;
#if VT_CUDA
  if (gradients.device().is_cuda()) {
    launch(decide_kernel, dim3(1), dim3(warp_threads), 0, current_stream(), sums.data<double>(), blocks, max_norm,
           checked, result);
    return;
  }
#endif
  const double* first = std::as_const(sums).data<double>();
  decide(std::accumulate(first, first + blocks, 0.0), max_norm, checked, result);
}

double squared_norm(const Tensor& x) {
  VT_CHECK(x.is_contiguous() && (x.dtype() == DType::f32 || x.dtype() == DType::f64),
           "squared_norm: x is {} {}, expected row-major f32 or f64", name_of(x.dtype()), to_string(x.shape()));
  Tensor statistics = zeros({3}, DType::f64, x.device());
  measure_gradients(x, {{.begin = 0, .end = x.numel()}}, 0, Tensor(), statistics);
  return statistics.to_vector<double>()[gradient_norm_squared];
}

}  // namespace vitrine
