// The played GPU itself: threads meet where they should, and what a GPU forbids is found.
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <vector>

#include "tensor/device/launch.h"

namespace vitrine {
namespace {

/// Device memory with the given numbers, for the length of a test.
class DeviceInts {
 public:
  explicit DeviceInts(std::vector<int> values) : count_(values.size()) {
    CUDA_CHECK(cudaMalloc(&data_, count_ * sizeof(int)));
    CUDA_CHECK(cudaMemcpyAsync(data_, values.data(), count_ * sizeof(int), cudaMemcpyHostToDevice));
  }
  ~DeviceInts() { (void)cudaFree(data_); }
  int* data() const { return data_; }
  std::vector<int> read() const {
    std::vector<int> values(count_);
    CUDA_CHECK(cudaMemcpyAsync(values.data(), data_, count_ * sizeof(int), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::size_t count_;
  int* data_ = nullptr;
};

class Seed {
 public:
  explicit Seed(std::uint64_t seed) { host_cuda::set_seed(seed); }
  ~Seed() { host_cuda::set_seed(0); }
};

/// Each block reverses its part of x. Without the barrier, a thread may read what its neighbour has
/// not written yet.
template <bool has_barrier>
__global__ void reverse_kernel(int* x) {
  int* part = dynamic_shared<int>();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  part[threadIdx.x] = x[i];
  if (has_barrier) __syncthreads();
  x[i] = part[blockDim.x - 1 - threadIdx.x];
}

template <bool has_barrier>
std::vector<int> reversed_by_blocks(std::uint64_t seed) {
  const Seed order(seed);
  std::vector<int> numbers(200);
  std::iota(numbers.begin(), numbers.end(), 0);
  const DeviceInts x(numbers);
  launch(reverse_kernel<has_barrier>, dim3(2), dim3(100), 100 * sizeof(int), nullptr, x.data());
  return x.read();
}

TEST(HostCuda, BarriersHoldInEveryOrderOfThreads) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto result = reversed_by_blocks<true>(seed);
    for (int i = 0; i < 100; ++i) {
      ASSERT_EQ(result[static_cast<std::size_t>(i)], 99 - i) << "seed " << seed;
      ASSERT_EQ(result[static_cast<std::size_t>(100 + i)], 199 - i) << "seed " << seed;
    }
  }
}

TEST(HostCuda, MissingBarrierMovesTheResult) {
  std::set<std::vector<int>> results;
  for (std::uint64_t seed = 1; seed < 6; ++seed) results.insert(reversed_by_blocks<false>(seed));
  EXPECT_GT(results.size(), 1u);
}

__global__ void warp_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32, i = static_cast<int>(threadIdx.x);
  int sum = i;
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, mask);
  const int from_next = __shfl_down_sync(0xFFFFFFFFu, i, 1);
  const int from_first = __shfl_sync(0xFFFFFFFFu, i, 0);
  const auto odd = static_cast<int>(__ballot_sync(0xFFFFFFFFu, lane % 2));
  out[i * 4] = sum;
  out[i * 4 + 1] = from_next;
  out[i * 4 + 2] = from_first;
  out[i * 4 + 3] = odd;
}

TEST(HostCuda, WarpOperationsExchangeLanes) {
  for (const std::uint64_t seed : {0, 7}) {
    const Seed order(seed);
    const DeviceInts out(std::vector<int>(64 * 4));
    launch(warp_kernel, dim3(1), dim3(64), 0, nullptr, out.data());
    const auto result = out.read();
    for (int i = 0; i < 64; ++i) {
      const int first = i / 32 * 32;
      const auto at = static_cast<std::size_t>(i) * 4;
      EXPECT_EQ(result[at], 32 * first + 31 * 16);
      EXPECT_EQ(result[at + 1], i % 32 == 31 ? i : i + 1);
      EXPECT_EQ(result[at + 2], first);
      EXPECT_EQ(result[at + 3], static_cast<int>(0xAAAAAAAAu));
    }
  }
}

__global__ void deadlock_kernel() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncwarp(threadIdx.x == 40 ? 0xFFFFFFFFu : 1u << threadIdx.x % 32);
  __syncthreads();
}
__global__ void different_operations_kernel() {
  if (threadIdx.x < 16)
    __syncwarp();
  else
    (void)__any_sync(0xFFFFFFFFu, 1);
}
__global__ void absent_lane_kernel() {
  if (threadIdx.x < 16) (void)__shfl_sync(0x0000FFFFu, 1, 20);
}

void expect_kernel_error(void (*kernel)(), const std::string& text) {
  try {
    launch(kernel, dim3(1), dim3(64), 0, nullptr);
    FAIL() << "nothing was thrown";
  } catch (const host_cuda::KernelError& error) {
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

TEST(HostCuda, ForbiddenMeetingsAreErrors) {
  expect_kernel_error(deadlock_kernel, "63 wait at __syncthreads, from thread 0; 1 wait at __syncwarp, from thread 40");
  expect_kernel_error(different_operations_kernel, "lanes of one warp meet in __syncwarp and __ballot_sync");
  expect_kernel_error(absent_lane_kernel, "__shfl_sync reads lane 20, which takes no part");
  EXPECT_EQ(reversed_by_blocks<true>(0)[0], 99) << "a kernel runs after those that failed";
}

TEST(HostCuda, LaunchesThatAGpuRefuses) {
  const DeviceInts x({1});
  EXPECT_THROW(launch(reverse_kernel<true>, dim3(1), dim3(1025), 0, nullptr, x.data()), Error);
  EXPECT_THROW(launch(reverse_kernel<true>, dim3(1, 65536), dim3(32), 0, nullptr, x.data()), Error);
  EXPECT_THROW(launch(reverse_kernel<true>, dim3(1), dim3(32), 228 * 1024, nullptr, x.data()), Error);
  (void)cudaGetLastError();
}

__global__ void write_kernel(int* x, int index) { x[index] = 1; }
__global__ void write_shared_kernel(int index) { dynamic_shared<int>()[index] = 1; }

TEST(HostCudaDeathTest, DeviceMemoryIsClosedToTheHost) {
  const DeviceInts x({1, 2, 3});
  EXPECT_DEATH(x.data()[1] = 0, "");
}

#if defined(__SANITIZE_ADDRESS__)
TEST(HostCudaDeathTest, IndicesOutOfBoundsAreFound) {
  const DeviceInts x({1, 2, 3});
  launch(write_kernel, dim3(1), dim3(1), 0, nullptr, x.data(), 2);
  EXPECT_DEATH(launch(write_kernel, dim3(1), dim3(1), 0, nullptr, x.data(), 3), "use-after-poison");
  EXPECT_DEATH(launch(write_kernel, dim3(1), dim3(1), 0, nullptr, x.data(), -1), "use-after-poison");
  EXPECT_DEATH(launch(write_shared_kernel, dim3(1), dim3(1), 12, nullptr, 3), "heap-buffer-overflow");
}
#endif

}  // namespace
}  // namespace vitrine
