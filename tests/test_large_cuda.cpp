// Sizes at which indices of 16 or 32 bits would overflow in a kernel, and memory that runs out.
#include <gtest/gtest.h>

#include "ops/ops.h"
#include "tensor/allocator.h"
#include "tests/cuda_test.h"
#include "tests/op_drivers.h"

#if VT_CUDA
namespace vitrine {
namespace {

class LargeOnCuda : public CudaTest {
 protected:
  using Call = std::function<Tensor(const Tensors&)>;

  /// The output and the gradients of the sum of its squares, on the CPU.
  static Tensors results(const Call& call, const Tensors& inputs, Device device) {
    Tape tape;
    Tensors leaves = moved(inputs, device);
    for (Tensor& leaf : leaves) leaf = is_floating(leaf.dtype()) ? tape.watch(leaf) : leaf;
    const Tensor y = call(leaves);
    const Gradients gradients = tape.backward(sum(square(y)));
    Tensors all{to_device(y, cpu)};
    for (const Tensor& leaf : leaves) {
      if (is_floating(leaf.dtype())) all.push_back(to_device(gradients[leaf], cpu));
    }
    return all;
  }

  static void expect_like_the_cpu(const std::string& name, const Call& call, const Tensors& inputs) {
    const Tensors expected = results(call, inputs, cpu), actual = results(call, inputs, cuda());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double error = amax(abs(actual.at(i) - expected[i])).item();
      EXPECT_LE(error, 1e-9 * std::max(1.0, amax(abs(expected[i])).item())) << name << ", result " << i;
    }
  }
};

TEST_F(LargeOnCuda, MoreThan65535Rows) {
  constexpr std::int64_t rows = 65'601;
  const Tensor x = test_values({rows, 3}, 1), w = test_values({3}, 2), b = test_values({3}, 3);
  const Tensor labels = test_indices({rows}, 3, 4);
  expect_like_the_cpu("softmax", [](const Tensors& t) { return softmax(t[0]); }, {x});
  expect_like_the_cpu("layer_norm", [](const Tensors& t) { return layer_norm(t[0], t[1], t[2]); }, {x, w, b});
  expect_like_the_cpu("sum of rows", [](const Tensors& t) { return sum(t[0], {1}); }, {x});
  expect_like_the_cpu("sum of columns", [](const Tensors& t) { return sum(t[0], {0}); }, {x});
  expect_like_the_cpu("cross_entropy", [&](const Tensors& t) { return cross_entropy(t[0], labels); }, {x});
  expect_like_the_cpu("gather", [](const Tensors& t) { return gather(t[0], 1, t[1]); }, {x, unsqueeze(labels, 1)});
  expect_like_the_cpu("linear", [](const Tensors& t) { return linear(t[0], t[1], t[2]); },
                      {x, test_values({2, 3}, 5), test_values({2}, 6)});
}

#if !defined(VT_HOST_CUDA)  // 70,002 blocks of 256 threads take minutes where each thread is a fibre
TEST_F(LargeOnCuda, MoreThan65535Heads) {
  const Tensor q = test_values({35'001, 2, 1, 2}, 1), k = test_values({35'001, 2, 2, 2}, 2);
  expect_like_the_cpu("attention", [](const Tensors& t) { return attention(t[0], t[1], t[1]); }, {q, k});
}

#endif

TEST_F(LargeOnCuda, MoreThan2To31Elements) {
  constexpr std::int64_t count = (std::int64_t{1} << 31) + 6;
  const Tensor bytes = empty({count}, DType::u8, cuda());
  Tensor end = slice(bytes, 0, count - 3, count), tail = slice(bytes, 0, count - 2, count);
  fill(end, 1);
  fill(tail, 7);
  EXPECT_EQ(tail.offset(), count - 2);
  EXPECT_EQ(cast(end, DType::f64).to_vector<double>(), (std::vector<double>{1, 7, 7}));
}

TEST_F(LargeOnCuda, AfterMemoryRanOutASmallerBatchWorks) {
  release_cached_memory(cuda());
  set_memory_limit(memory_statistics(cuda()).in_use + (1 << 20), cuda());
  EXPECT_THROW(ones({1 << 20}, DType::f32, cuda()), OutOfMemory);
  EXPECT_EQ(sum(ones({1 << 16}, DType::f32, cuda())).item(), 1 << 16);
  set_memory_limit(0, cuda());
}

}  // namespace
}  // namespace vitrine
#endif
