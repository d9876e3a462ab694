// The gradient check itself: it passes what is right and catches what is wrong, down to one entry.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "autograd/gradcheck.h"
#include "op_table/drivers.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

/// x^2 whose backward is off by `factor` in one element.
Tensor square_with_a_slip(const Tensor& x, std::int64_t element, double factor) {
  return record("slip", square(x.detach()), {x},
                [x = Saved(x, "slip"), element, factor](const Tensor& dy, Chain& chain) {
                  Tensor dx = clone(mul(mul(dy, *x), 2));
                  dx.data<double>()[element] *= factor;
                  chain.add(0, dx);
                });
}

TEST(Gradcheck, PassesARightGradient) {
  const auto report =
      check_gradients([](const auto& x) { return x[0] * x[1]; }, {test_values({2, 3}, 1), test_values({3}, 2)});
  EXPECT_TRUE(report.passed) << report.message;
  EXPECT_EQ(report.entries, 6 * 6 + 6 * 3);
}

// A gradient broken on purpose: one of twelve entries is wrong by one part in a million.
TEST(Gradcheck, CatchesOneSlightlyWrongEntry) {
  const Tensor x = test_values({3, 4}, 1, 0.5, 2);
  for (std::int64_t element = 0; element < 12; ++element) {
    const auto report =
        check_gradients([&](const auto& in) { return square_with_a_slip(in[0], element, 1 + 1e-6); }, {x});
    EXPECT_FALSE(report.passed) << "element " << element;
  }
  EXPECT_TRUE(check_gradients([](const auto& in) { return square_with_a_slip(in[0], 0, 1); }, {x}).passed);
}

TEST(Gradcheck, SaysWhereTheWorstEntryIs) {
  const auto report =
      check_gradients([](const auto& in) { return square_with_a_slip(in[0], 5, 2); }, {full({2, 3}, 1.5, DType::f64)});
  EXPECT_NE(report.message.find("d y(1, 2) / d x0(1, 2): backward 6, numeric 3"), std::string::npos) << report.message;
}

TEST(Gradcheck, FailsOnNanAndOnAMissingGradient) {
  const Tensor x = test_values({3}, 1, 0.5, 2);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto with_nan = check_gradients([&](const auto& in) { return square_with_a_slip(in[0], 1, nan); }, {x});
  EXPECT_FALSE(with_nan.passed);
  EXPECT_TRUE(std::isinf(with_nan.worst_relative_error));
  EXPECT_FALSE(check_gradients([](const auto& in) { return square(in[0].detach()); }, {x}).passed);
}

TEST(Gradcheck, ChecksParametersByName) {
  Parameter weight(test_values({2, 3}, 1)), bias(test_values({2}, 2));
  const Tensor x = test_values({4, 3}, 3);
  const std::vector<NamedParameter> parameters{{"weight", &weight}, {"bias", &bias}};
  const auto good = check_parameter_gradients([&] { return tanh(linear(x, weight, Tensor(bias))); }, parameters);
  EXPECT_TRUE(good.passed) << good.message;
  const auto bad = check_parameter_gradients([&] { return linear(x, weight, Tensor(bias).detach()); }, parameters);
  EXPECT_FALSE(bad.passed);
  EXPECT_NE(bad.message.find("bias"), std::string::npos) << bad.message;
}

// A mistake in one entry shows in a random direction of the whole.
TEST(Gradcheck, RandomDirectionsFindASlipToo) {
  const Tensor x = test_values({2, 3}, 1, 0.5, 2), w = test_values({3, 4}, 2);
  const GradcheckOptions brief{.directions = 2};
  const auto good = check_gradients([](const auto& t) { return tanh(matmul(t[0], t[1])); }, {x, w}, brief);
  EXPECT_TRUE(good.passed) << good.message;
  EXPECT_EQ(good.entries, 4);  // two inputs in two directions
  EXPECT_TRUE(good.worst_relative_error < 1e-8) << good.message;
  const auto bad = check_gradients([](const auto& t) { return square_with_a_slip(t[0], 3, 1.001); }, {x}, brief);
  EXPECT_FALSE(bad.passed);
  EXPECT_NE(bad.message.find("d y / d x0 in direction"), std::string::npos) << bad.message;
}

TEST(Gradcheck, RejectsWhatItCannotCheck) {
  EXPECT_THROW(check_gradients([](const auto& x) { return x[0]; }, {zeros({2})}), Error);
  EXPECT_THROW(check_gradients([](const auto& x) { return cast(x[0], DType::f32); }, {zeros({2}, DType::f64)}), Error);
}

// The op table's own driver: a row with a broken gradient is counted as failed, in every layout.
TEST(Gradcheck, TheOpTableCatchesABrokenRow) {
  OpRow row;
  row.op = "slip";
  row.cases = [] {
    return std::vector<OpCase>{{"matrix",
                                {test_values({2, 3}, 1, 0.5, 2)},
                                [](const Tensors& x) { return square_with_a_slip(x[0], 3, 1.001); },
                                [](const Tensors& x) { return square(x[0]); }}};
  };
  const OpCheck check = check_op_gradients(row);
  EXPECT_GE(check.cases, 6);
  EXPECT_GE(check.failed, 5);
}

}  // namespace
}  // namespace vitrine
