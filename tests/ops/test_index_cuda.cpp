// scatter_add on CUDA: a warp for each row, and a thread for each column, add in the order of the
// index, as the CPU does.
#include <gtest/gtest.h>

#include "op_table/drivers.h"
#include "op_table/op_table.h"
#include "ops/ops.h"
#include "tests/support/cuda_test.h"

#if VT_CUDA
namespace vitrine {
namespace {

using IndexCuda = CudaTest;

/// The gradient of index_select, which is a scatter_add: 300 entries to 20 rows.
Tensor gradient_of_rows(std::int64_t columns, bool permuted, Device device) {
  const auto there = [&](const Tensor& x) { return to_device(cast_data(x, DType::f32), device); };
  Tape tape;
  const Tensor table = tape.watch(there(test_values({20, columns}, 1)));
  const Tensor index = to_device(test_indices({300}, 20, 2), device);
  Tensor y = index_select(table, 0, index);
  if (permuted) y = reshape(permute(y, {1, 0}), {columns, 15, 20});  // as Swin makes a bias (heads, N, N) of it
  return tape.backward(y, there(test_values(y.shape(), 3)))[table];
}

TEST_F(IndexCuda, RowsThatAreNamedOftenGetTheBitsOfTheCpu) {
  for (const std::int64_t columns : {1, 3, 32, 33, 70, 5000}) {
    for (const bool permuted : {false, true}) {
      const Tensor expected = gradient_of_rows(columns, permuted, cpu);
      EXPECT_TRUE(same_bits(to_device(gradient_of_rows(columns, permuted, cuda()), cpu), expected))
          << columns << " columns" << (permuted ? ", permuted" : "");
    }
  }
}

}  // namespace
}  // namespace vitrine
#endif
