// The caching allocator: reuse, statistics, alignment, and what happens when memory runs out.
#include <gtest/gtest.h>

#include <cstdint>

#include "ops/ops.h"
#include "tensor/device/allocator.h"
#include "tensor/tensor.h"

namespace vitrine {
namespace {

TEST(Allocator, AFreedBlockServesTheNextRequestOfItsSize) {
  const void* first;
  {
    const Tensor a = empty({1000, 1000});
    first = a.raw_data();
  }
  const std::uint64_t system_before = memory_statistics().system_requests;
  const Tensor b = empty({1000, 1000});
  EXPECT_EQ(b.raw_data(), first);
  EXPECT_EQ(memory_statistics().system_requests, system_before);
}

TEST(Allocator, CountsWhatIsInUseAndItsPeak) {
  const std::size_t before = memory_statistics().in_use;
  reset_peak_memory();
  {
    const Tensor a = empty({1 << 20});  // 4 MiB
    EXPECT_GE(memory_statistics().in_use, before + (4u << 20));
    EXPECT_LE(memory_statistics().in_use, before + (5u << 20));  // a quarter is the most that a size class wastes
  }
  EXPECT_EQ(memory_statistics().in_use, before);
  EXPECT_GE(memory_statistics().peak, before + (4u << 20));
  EXPECT_GE(memory_statistics().cached, 4u << 20);
  release_cached_memory();
  EXPECT_EQ(memory_statistics().cached, 0u);
}

TEST(Allocator, BlocksAreAligned) {
  for (const std::int64_t count : {1, 3, 100, 5000, 1 << 20}) {
    const Tensor x = empty({count}, DType::u8);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.raw_data()) % 64, 0u) << count;
  }
}

TEST(Allocator, RunningOutIsATypedErrorAfterWhichSmallerRequestsWork) {
  set_memory_limit(memory_statistics().in_use + (8u << 20));
  std::string message;
  try {
    empty({1 << 24});
  } catch (const OutOfMemory& error) {
    message = error.what();
    EXPECT_EQ(error.bytes_needed(), std::size_t{64} << 20);
  }
  EXPECT_NE(message.find("out of memory on cpu: need 67108864 bytes"), std::string::npos) << message;
  EXPECT_NO_THROW(empty({1 << 10}));
  set_memory_limit(0);
  EXPECT_NO_THROW(empty({1 << 24}));
}

TEST(Allocator, TheErrorNamesTheOp) {
  const auto message_of = [](const auto& body) -> std::string {
    try {
      body();
    } catch (const OutOfMemory& error) {
      return error.what();
    }
    return "no error";
  };
  const Tensor x = ones({1 << 20});  // 4 MiB
  Tape tape;
  const Tensor y = gelu(tape.watch(x));
  release_cached_memory();
  set_memory_limit(memory_statistics().in_use + (1u << 20));
  const std::string forward = message_of([&] { gelu(x); }), product = message_of([&] {
                                                              linear(reshape(x, {1 << 20, 1}), ones({2, 1}));
                                                            });
  const std::string backward = message_of([&] { tape.backward(y, x); });
  set_memory_limit(0);
  EXPECT_TRUE(forward.starts_with("gelu: out of memory on cpu: need 4194304 bytes")) << forward;
  EXPECT_TRUE(product.starts_with("linear: out of memory on cpu: need 8388608 bytes")) << product;
  EXPECT_TRUE(backward.starts_with("backward of gelu: out of memory on cpu: need 4194304 bytes")) << backward;
}

TEST(Allocator, AnEmptyTensorTakesNoMemory) {
  const std::uint64_t before = memory_statistics().requests;
  const Tensor x = empty({3, 0});
  EXPECT_TRUE(x.defined());
  EXPECT_EQ(memory_statistics().requests, before);
}

}  // namespace
}  // namespace vitrine
