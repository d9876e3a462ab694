// Sizes at which indices of 16 or 32 bits would overflow in a kernel, and memory that runs out.
#include <gtest/gtest.h>

#include "op_table/drivers.h"
#include "ops/ops.h"
#include "tensor/device/allocator.h"
#include "tensor/strided.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"

#if defined(VT_HOST_CUDA)
#include "ops/drivers/elementwise.h"
#endif

#if VT_CUDA
namespace vitrine {
namespace {

#if defined(VT_HOST_CUDA)  // where a thread is a fibre, every row takes half a millisecond
constexpr std::int64_t packed_columns = 8;
constexpr DType packed_dtypes[] = {DType::bf16};
#else
constexpr std::int64_t packed_columns = 64;
constexpr DType packed_dtypes[] = {DType::bf16, DType::f32};
#endif

class LargeOnCuda : public CudaTest {
 protected:
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

  /// Results of inputs of any dtype on CUDA against those of the same elements in f64 on the CPU.
  static void expect_like_the_cpu(const std::string& name, const Call& call, const Tensors& inputs,
                                  double bound = 1e-9) {
    Tensors exact;
    for (const Tensor& x : inputs) exact.push_back(is_floating(x.dtype()) ? cast_data(x, DType::f64) : x);
    const Tensors expected = results(call, exact, cpu), actual = results(call, inputs, cuda());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double error = amax(abs(cast_data(actual.at(i), DType::f64) - expected[i])).item();
      EXPECT_TRUE(error <= bound * std::max(1.0, amax(abs(expected[i])).item()))
          << name << ", result " << i << ": " << error;
    }
  }
};

TEST_F(LargeOnCuda, MoreThan65535Rows) {
  constexpr std::int64_t rows = 65'601;
  const Tensor x = test_values({rows, 3}, 1), w = test_values({3}, 2), b = test_values({3}, 3);
  const Tensor labels = test_indices({rows}, 3, 4);
  expect_like_the_cpu("softmax", [](const Tensors& t) { return softmax(t[0]); }, {x});
  expect_like_the_cpu("sum of columns", [](const Tensors& t) { return sum(t[0], {0}); }, {x});
  expect_like_the_cpu("gather", [](const Tensors& t) { return gather(t[0], 1, t[1]); }, {x, unsqueeze(labels, 1)});
  expect_like_the_cpu("linear", [](const Tensors& t) { return linear(t[0], t[1], t[2]); },
                      {x, test_values({2, 3}, 5), test_values({2}, 6)});
#if !defined(VT_HOST_CUDA)  // a warp for each row, as softmax: minutes where each thread is a fibre
  expect_like_the_cpu("layer_norm", [](const Tensors& t) { return layer_norm(t[0], t[1], t[2]); }, {x, w, b});
  expect_like_the_cpu("sum of rows", [](const Tensors& t) { return sum(t[0], {1}); }, {x});
  expect_like_the_cpu("cross_entropy", [&](const Tensors& t) { return cross_entropy(t[0], labels); }, {x});
  const Tensor q = test_values({35'001, 2, 1, 2}, 1), k = test_values({35'001, 2, 2, 2}, 2);
  expect_like_the_cpu("attention", [](const Tensors& t) { return attention(t[0], t[1], t[1]); }, {q, k});
#endif
}

/// LayerNorm and bias with GELU keep rows in registers, as packs where 16 bytes hold several
/// numbers.
TEST_F(LargeOnCuda, MoreThan65535RowsOfPacks) {
  const Shape shape{65'601, packed_columns};
  for (const DType dtype : packed_dtypes) {
#if defined(VT_HOST_CUDA)
    if (dtype != DType::bf16) continue;  // one of them takes a minute where each thread is a fibre
#endif
    const auto rounded = [&](const Tensor& x) { return cast_data(x, dtype); };
    const Tensor x = rounded(test_values(shape, 1)), w = rounded(test_values({shape[1]}, 2));
    const Tensor b = rounded(test_values({shape[1]}, 3));
    const double bound = dtype == DType::f32 ? 1e-5 : 0x1p-6;
    expect_like_the_cpu(
        "layer_norm", [](const Tensors& t) { return layer_norm(t[0], t[1], t[2]); }, {x, w, b}, bound);
    expect_like_the_cpu(
        "bias_gelu", [](const Tensors& t) { return bias_gelu(t[0], t[1]); }, {x, b}, bound);
  }
}

// ---- More than 2^31 elements ----

TEST_F(LargeOnCuda, AnOffsetBeyond2To31) {
  constexpr std::int64_t count = (std::int64_t{1} << 31) + 6;
  const Tensor bytes = empty({count}, DType::u8, cuda());
  Tensor end = slice(bytes, 0, count - 3, count), tail = slice(bytes, 0, count - 2, count);
  fill(end, 1);
  fill(tail, 7);
  EXPECT_EQ(tail.offset(), count - 2);
  EXPECT_EQ(cast(end, DType::f64).to_vector<double>(), (std::vector<double>{1, 7, 7}));
}

/// 13 elements of a vector: the first, some in the middle, the last.
Tensors marks(const Tensor& x) {
  const std::int64_t count = x.numel();
  return {slice(x, 0, 0, 3), slice(x, 0, count / 2 - 1, count / 2 + 2), slice(x, 0, count - 7, count)};
}

Values numbers(const Tensor& x) { return cast_data(x, DType::f64).to_vector<double>(); }

void expect_marks(const Tensor& x, double expected) {
  for (const Tensor& part : marks(x)) {
    for (const double value : numbers(part)) EXPECT_EQ(value, expected);
  }
}

/// Fill, sum, cast and a broadcast add of `count` elements, an even number. Only marks and sums are
/// copied to the CPU.
void expect_all_elements(std::int64_t count) {
  Tensor x = full({count}, 2, DType::bf16, cuda());
  expect_marks(x, 2);
  EXPECT_NEAR(sum(x).item() / static_cast<double>(count), 2, 0x1p-7);
  fill(x, 0);
  for (Tensor& part : marks(x)) fill(part, 1);
  EXPECT_EQ(sum(x).item(), 13);

  const Tensor bytes = cast_data(x, DType::u8);
  expect_marks(bytes, 1);
  EXPECT_EQ(sum(cast_data(bytes, DType::bf16)).item(), 13);

  const Tensor pair = to_device(cast_data(vector_of({1, 3}), DType::bf16), cuda());
  const Tensor sums = reshape(x, {count / 2, 2}) + pair;  // by strides: the order of `pair` is not that of the output
  EXPECT_EQ(numbers(slice(sums, 0, 0, 2)), (Values{2, 4, 2, 3}));
  EXPECT_EQ(numbers(slice(sums, 0, count / 2 - 4, count / 2)), (Values{1, 4, 2, 4, 2, 4, 2, 4}));
  const Tensor back = reshape(sums - pair, {count});
  expect_marks(back, 1);
  EXPECT_EQ(sum(back).item(), 13);
}

/// A copy of 2 `count` elements by strides.
void expect_transposed(std::int64_t count) {
  Tensor rows = zeros({2, count}, DType::u8, cuda());
  Tensor first = slice(select(rows, 0, 1), 0, 0, 1), last = slice(rows, 1, count - 1, count);
  fill(first, 3);
  fill(last, 5);
  const Tensor columns = contiguous_data(transpose(rows));
  EXPECT_EQ(numbers(slice(columns, 0, 0, 2)), (Values{0, 3, 0, 0}));
  EXPECT_EQ(numbers(slice(columns, 0, count - 2, count)), (Values{0, 0, 5, 5}));
  EXPECT_EQ(sum(cast_data(columns, DType::bf16)).item(), 13);
}

TEST_F(LargeOnCuda, MoreThan2To31Elements) {
  expect_all_elements(4'102);
  expect_transposed(515);
#if defined(VT_HOST_CUDA)
  GTEST_SKIP()
      << "2^31 elements take hours where each thread is a fibre: only 4,102 were tried, the rest needs a real GPU";
#else
  constexpr std::int64_t count = (std::int64_t{1} << 31) + 6;  // 20 GB at a time
  expect_all_elements(count);
  release_cached_memory(cuda());
  expect_transposed(count);
  release_cached_memory(cuda());
#endif
}

/// Beyond 2^32 elements of a copy, as the host can ask without having them.
TEST(Large, OffsetsBeyond2To32) {
  constexpr std::int64_t rows = (std::int64_t{1} << 31) + 3, count = 2 * rows;
  const auto loop = collapse<2>({rows, 2}, {Strides{2, 1}, Strides{1, rows}});
  for (const std::int64_t i : {std::int64_t{0}, std::int64_t{1}, rows, (std::int64_t{1} << 32) + 1, count - 1}) {
    std::int64_t offsets[2] = {-1, -1};
    loop.element_offsets(i, count, offsets);
    EXPECT_EQ(offsets[0], i);
    EXPECT_EQ(offsets[1], i / 2 + i % 2 * rows);
  }
}

#if defined(VT_HOST_CUDA)
struct Subtract {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return a - b;
  }
};

/// The kernel that more than 2^30 elements get, on a few.
TEST_F(LargeOnCuda, IndicesOf64BitsFindTheSameElements) {
  const Tensor a = to_device(test_values({5, 1, 7}, 1), cuda()), b = to_device(test_values({3, 1}, 2), cuda());
  const Tensor expected = a - b;
  Tensor y = zeros(expected.shape(), DType::f64, cuda());
  const auto map = make_map_loop(y.shape(), a, b);
  launch(map_strided_kernel<std::int64_t, Subtract, double, double, double>, dim3(2), dim3(32), 0, current_stream(),
         Subtract{}, map, y.data<double>(), a.data<double>(), b.data<double>());
  EXPECT_EQ(y.to_vector<double>(), expected.to_vector<double>());
}
#endif

// ---- Memory that runs out ----

TEST_F(LargeOnCuda, AfterMemoryRanOutASmallerBatchWorks) {
  release_cached_memory(cuda());
  set_memory_limit(memory_statistics(cuda()).in_use + (1 << 20), cuda());
  EXPECT_THROW(ones({1 << 20}, DType::f32, cuda()), OutOfMemory);
  EXPECT_EQ(sum(ones({1 << 16}, DType::f32, cuda())).item(), 1 << 16);
  set_memory_limit(0, cuda());
}

#if defined(VT_HOST_CUDA)
/// While one lives, no more than `bytes` of the device's memory are free.
class LittleMemory {
 public:
  explicit LittleMemory(std::size_t bytes) {
    std::size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    host_cuda::set_device_memory(total - free + bytes);
  }
  ~LittleMemory() { host_cuda::set_device_memory(std::size_t{8} << 30); }
};

TEST_F(LargeOnCuda, ExhaustedMemoryIsATypedErrorAfterWhichASmallerBatchWorks) {
  const Tensor weight = to_device(cast_data(test_values({64, 64}, 1), DType::f32), cuda());
  const auto gradient = [&](std::int64_t batch) {
    Tape tape;
    const Tensor w = tape.watch(weight), y = gelu(linear(ones({batch, 64}, DType::f32, cuda()), w));
    return tape.backward(sum(y))[w].to_vector<float>();
  };
  const auto expected = gradient(128);
  release_cached_memory(cuda());
  const LittleMemory little(std::size_t{768} << 10);
  try {
    gradient(2048);  // its input takes 512 KiB, and so does what linear makes of it
    FAIL() << "there was enough memory";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.bytes_needed(), std::size_t{512} << 10);
    EXPECT_EQ(error.op(), "linear");
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with("linear: out of memory on cuda:0: need 524288 bytes, ")) << message;
    EXPECT_TRUE(contains(message, " in use, ") && contains(message, ", peak ") &&
                contains(message, " free on the device"))
        << message;
  }
  EXPECT_EQ(gradient(128), expected);
}

TEST_F(LargeOnCuda, OtherCallsThatFindNoMemorySayTheSame) {
  const Tensor x = ones({64}, DType::f32, cuda());
  void* buffer = nullptr;
  const auto message_of = [](const std::string& function, const auto& body) -> std::string {
    host_cuda::fail_next(function);
    try {
      body();
    } catch (const OutOfMemory& error) {
      EXPECT_EQ(error.bytes_needed(), 0u);
      return error.what();
    }
    return "no error";
  };
  const std::string launch = message_of("cudaLaunchKernelEx", [&] { gelu(x); });
  const std::string pinned = message_of("cudaHostAlloc", [&] { CUDA_CHECK(cudaHostAlloc(&buffer, 64, 0)); });
  EXPECT_TRUE(launch.starts_with("gelu: cuda: cudaLaunchKernelEx(")) << launch;
  EXPECT_TRUE(pinned.starts_with("cuda: cudaHostAlloc(")) << pinned;
  for (const std::string& message : {launch, pinned}) {
    EXPECT_TRUE(contains(message, "failed: out of memory on cuda:0: ") && contains(message, ", peak ")) << message;
  }
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  EXPECT_EQ(sum(relu(x)).item(), 64);
}
#endif

}  // namespace
}  // namespace vitrine
#endif
