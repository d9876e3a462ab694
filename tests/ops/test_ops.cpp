// Runs every row of the op table through every driver.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "op_table/drivers.h"
#include "tests/support/cuda_test.h"

namespace vitrine {
namespace {

class OpTable : public testing::TestWithParam<std::size_t> {
 protected:
  const OpRow& row() const { return op_table()[GetParam()]; }

  static void expect_none_failed(const OpCheck& check) {
    EXPECT_EQ(check.failed, 0) << check.op << ": " << check.failed << " of " << check.cases << " failed; worst "
                               << check.worst_relative_error << " at " << check.where;
  }
};

TEST_P(OpTable, HasCases) { EXPECT_GE(row().cases().size(), 3u); }

TEST_P(OpTable, ValuesInF64) {
  const OpCheck check = check_op_values(row(), DType::f64);
  EXPECT_GT(check.cases, 0);
  expect_none_failed(check);
}
TEST_P(OpTable, ValuesInF32) { expect_none_failed(check_op_values(row(), DType::f32)); }
TEST_P(OpTable, ValuesInBf16) { expect_none_failed(check_op_values(row(), DType::bf16)); }
TEST_P(OpTable, Layouts) { expect_none_failed(check_op_layouts(row())); }
TEST_P(OpTable, Gradients) {
  const OpCheck check = check_op_gradients(row());
  EXPECT_EQ(check.cases > 0, row().differentiable);
  expect_none_failed(check);
}
TEST_P(OpTable, SecondDerivatives) { expect_none_failed(check_op_second_derivatives(row())); }
TEST_P(OpTable, Determinism) { expect_none_failed(check_op_determinism(row())); }
TEST_P(OpTable, Errors) {
  const OpCheck check = check_op_errors(row());
  EXPECT_GT(check.cases, 0) << "every op rejects something; the row lists none of it";
  expect_none_failed(check);
}

// The same functors and formulas in f32 and bf16 on the CPU, gradients included, in every layout.
TEST_P(OpTable, GradientsInF32) { expect_none_failed(check_op_device(row(), DType::f32, cpu)); }
TEST_P(OpTable, GradientsInBf16) { expect_none_failed(check_op_device(row(), DType::bf16, cpu)); }

#if VT_CUDA
class OpTableOnCuda : public OpTable {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  }
};

TEST_P(OpTableOnCuda, F64) { expect_none_failed(check_op_device(row(), DType::f64, cuda())); }
TEST_P(OpTableOnCuda, F32) { expect_none_failed(check_op_device(row(), DType::f32, cuda())); }
TEST_P(OpTableOnCuda, Bf16) { expect_none_failed(check_op_device(row(), DType::bf16, cuda())); }
TEST_P(OpTableOnCuda, Gradients) { expect_none_failed(check_op_gradients(row(), cuda())); }
TEST_P(OpTableOnCuda, Determinism) { expect_none_failed(check_op_determinism(row(), cuda())); }

INSTANTIATE_TEST_SUITE_P(All, OpTableOnCuda, testing::Range(std::size_t{0}, op_table().size()),
                         [](const auto& row) { return op_table()[row.param].op; });
#endif

INSTANTIATE_TEST_SUITE_P(All, OpTable, testing::Range(std::size_t{0}, op_table().size()),
                         [](const auto& row) { return op_table()[row.param].op; });

// A class can be masked by a logit of -infinity.
TEST(SoftCrossEntropy, AMaskedClassCostsNothing) {
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<Device> devices{cpu};
  if (cuda_device_count() > 0) devices.push_back(cuda());
  for (const Device device : devices) {
    const Tensor logits = to_device(from_values<double>({1, -infinity, 2}, {1, 3}), device);
    const Tensor targets = to_device(from_values<double>({0.25, 0, 0.75}, {1, 3}), device);
    const double expected = std::log(std::exp(1) + std::exp(2)) - 0.25 * 1 - 0.75 * 2;
    EXPECT_NEAR(soft_cross_entropy(logits, targets).item(), expected, 1e-14);
    const Tensor none = to_device(zeros({1, 3}, DType::f64), device);
    EXPECT_NEAR(binary_cross_entropy(logits, none).item(), (std::log1p(std::exp(1)) + std::log1p(std::exp(2))) / 3,
                1e-14);
  }
}

}  // namespace
}  // namespace vitrine
