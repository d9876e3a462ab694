// The sum of squares in two stages: one partial sum for each block of fixed size, then their sum in order.
#include "optim/squared_norm.h"

#include <vector>

#include "tensor/launch.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

constexpr std::int64_t block_size = 1 << 15;  // elements

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
std::vector<double> block_sums_cpu(const T* x, std::int64_t count) {
  std::vector<double> sums(static_cast<std::size_t>(chunk_count(count, block_size)));
  parallel_for(count, block_size, [&](std::int64_t begin, std::int64_t end) {
    sums[static_cast<std::size_t>(begin / block_size)] = sum_of_squares(x + begin, end - begin);
  });
  return sums;
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

template <class T>
std::vector<double> block_sums_cuda(const Tensor& x) {
  const std::int64_t blocks = chunk_count(x.numel(), block_size);
  Tensor sums = empty({blocks}, DType::f64, x.device());
  launch(block_sums_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(threads), 0, current_stream(), x.data<T>(),
         x.numel(), sums.data<double>());
  return sums.to_vector<double>();
}
#endif

template <class T>
std::vector<double> block_sums(const Tensor& x) {
#if VT_CUDA
  if (x.device().is_cuda()) return block_sums_cuda<T>(x);
#endif
  return block_sums_cpu(x.data<T>(), x.numel());
}

}  // namespace

double squared_norm(const Tensor& x) {
  VT_CHECK(x.is_contiguous() && (x.dtype() == DType::f32 || x.dtype() == DType::f64),
           "squared_norm: x is {} {}, expected row-major f32 or f64", name_of(x.dtype()), to_string(x.shape()));
  if (x.numel() == 0) return 0;
  double total = 0;
  for (const double sum : x.dtype() == DType::f32 ? block_sums<float>(x) : block_sums<double>(x)) total += sum;
  return total;
}

}  // namespace vitrine
