// CUDA graphs: recorded work repeats on new numbers, in memory of its own, with new noise.
#include "tensor/device/graph.h"

#include <gtest/gtest.h>

#include "ops/ops.h"
#include "tensor/device/allocator.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"

#if defined(VT_HOST_CUDA)
#include <cuda_runtime.h>
#endif

namespace vitrine {
namespace {

TEST(Graph, IsRefusedOnTheCpu) {
  const auto record = [] { Graph(cpu, [] {}); };
  EXPECT_EQ(error_of(record), "graph: device is cpu, expected a CUDA device");
#if defined(VT_HOST_CUDA)
  host_cuda::set_device_present(false);
  const int devices = cuda_device_count();
  const std::string without_gpu = error_of(record);
  host_cuda::set_device_present(true);
  EXPECT_EQ(devices, 0);
  EXPECT_EQ(without_gpu, "graph: device is cpu, expected a CUDA device");
#endif
}

#if VT_CUDA
using GraphOnCuda = CudaTest;

Tensor numbers(std::initializer_list<double> values) {
  return to_device(from_vector(std::vector<double>(values), {static_cast<std::int64_t>(values.size())}), cuda());
}

TEST_F(GraphOnCuda, RepeatsTheWorkOnNewNumbers) {
  Tensor x = numbers({1, 2, 3}), y;
  Graph graph(cuda(), [&] { y = x * 2 + 1; });
  graph.replay();
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{3, 5, 7}));
  copy_into(x, numbers({10, 20, 30}));
  graph.replay();
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{21, 41, 61}));
}

TEST_F(GraphOnCuda, ItsMemoryIsGivenToNobodyElse) {
  const Tensor x = ones({1000}, DType::f64, cuda());
  Tensor y;
  Graph graph(cuda(), [&] { y = exp(x + 1) * 2; });  // the sum and its exponential are freed while it is recorded
  std::vector<Tensor> others;
  for (int i = 0; i < 8; ++i) others.push_back(full({1000}, i, DType::f64, cuda()));
  graph.replay();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(sum(others[static_cast<std::size_t>(i)]).item(), 1000 * i);
  EXPECT_NEAR(mean(y).item(), 2 * std::exp(2.0), 1e-12);
}

TEST_F(GraphOnCuda, ItsMemoryIsOrdinaryAgainWhenItIsGone) {
  const Tensor x = ones({100'000}, DType::f64, cuda());
  release_cached_memory(cuda());
  const auto cached_before = memory_statistics(cuda()).cached;
  {
    Tensor y;
    Graph graph(cuda(), [&] { y = exp(x) + 1; });
    release_cached_memory(cuda());
    EXPECT_GT(memory_statistics(cuda()).cached, cached_before) << "the graph keeps what it works in";
  }
  release_cached_memory(cuda());
  EXPECT_EQ(memory_statistics(cuda()).cached, cached_before);
}

TEST_F(GraphOnCuda, NoiseFollowsTheBase) {
  Tensor base = zeros({1}, DType::i64, cuda()), y;
  const Tensor x = ones({64}, DType::f32, cuda());
  const Random random{.seed = 5, .purpose = Purpose::dropout, .stream = 3};
  Random moved = random;
  moved.base = reinterpret_cast<const std::uint64_t*>(base.data<std::int64_t>());
  Graph graph(cuda(), [&] { y = dropout(x, 0.5, moved); });
  for (const std::uint64_t offset : {0, 1, 40}) {
    fill(base, static_cast<double>(offset));
    graph.replay();
    Random expected = random;
    expected.stream += offset;
    EXPECT_EQ(y.to_vector<float>(), dropout(ones({64}), 0.5, expected).to_vector<float>()) << offset;
  }
}

TEST_F(GraphOnCuda, WorkThatWaitsIsAnErrorAndLeavesNothingBehind) {
  const Tensor x = numbers({1, 2});
  EXPECT_THROW(Graph(cuda(), [&] { (void)x.to_vector<double>(); }), Error);
  (void)sum(x).item();
  try {
    Graph(cuda(), [&] { (void)to_device(ones({3}), cuda()); });
    ADD_FAILURE() << "a copy from the host became part of a graph";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "copy to the GPU: 12 bytes of host memory cannot become part of a recorded graph");
  }
  Tensor y;
  Graph graph(cuda(), [&] { y = x + 1; });
  graph.replay();
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{2, 3}));
}

TEST_F(GraphOnCuda, MemoryThatRunsOutWhileItIsRecordedFreesNothing) {
  const Tensor x = numbers({1, 2, 3});
  release_cached_memory(cuda());
  Tensor other = ones({1000}, DType::f64, cuda()), y;
  Graph graph(cuda(), [&] {
    y = x + 1;
    other = Tensor();  // from here on in the cache
    const auto cached = memory_statistics(cuda()).cached;
    EXPECT_GE(cached, 8000u);
    EXPECT_THROW(empty({std::int64_t{1} << 50}, DType::u8, cuda()), OutOfMemory);
    release_cached_memory(cuda());
    EXPECT_EQ(memory_statistics(cuda()).cached, cached) << "cudaFree was called while a graph was recorded";
    y = y * 2;
  });
  graph.replay();
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{4, 6, 8}));
  release_cached_memory(cuda());
  EXPECT_LT(memory_statistics(cuda()).cached, 8000u) << "afterwards it works again";
}

#if defined(VT_HOST_CUDA)
TEST_F(GraphOnCuda, AGraphForWhichThereIsNoMemoryLeavesNothingBehind) {
  const Tensor x = numbers({1, 2});
  Tensor y;
  const auto record = [&] { return Graph(cuda(), [&] { y = x + 1; }); };
  host_cuda::fail_next("cudaGraphInstantiate");
  EXPECT_THROW(record(), OutOfMemory);
  Graph graph = record();
  graph.replay();
  EXPECT_EQ(y.to_vector<double>(), (std::vector<double>{2, 3}));
}
#endif
#endif

}  // namespace
}  // namespace vitrine
