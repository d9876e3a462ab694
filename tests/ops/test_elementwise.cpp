// The map driver on sizes that the op table's gradient checks are too slow for, and what
// elementwise ops do with NaN.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "autograd/tape.h"
#include "ops/ops.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// 0, 1, 2, ... in row-major order.
Tensor counting(const Shape& shape, DType dtype = DType::f32) {
  return cast_data(arange(element_count(shape)).view_as(shape, contiguous_strides(shape), 0), dtype);
}

Tensor transposed(const Tensor& x) {
  return x.view_as({x.size(1), x.size(0)}, {x.strides()[1], x.strides()[0]}, x.offset());
}

// Every operand below spans many tiles and tasks, and none of its sizes divides a tile.
constexpr std::int64_t rows = 151, columns = 283;

TEST(Elementwise, MixesLayoutsAcrossTiles) {
  const Tensor plain = counting({rows, columns}), turned = transposed(counting({columns, rows}));
  const Tensor row = counting({columns}), column = counting({rows, 1}), number = full({}, 5);
  const auto sums = add(add(add(add(plain, turned), row), column), number).to_vector<float>();
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::int64_t expected = i * columns + j + j * rows + i + j + i + 5;
      ASSERT_EQ(sums[static_cast<std::size_t>(i * columns + j)], static_cast<float>(expected)) << i << ", " << j;
    }
  }
}

TEST(Elementwise, ReadsSteppedAndPermutedViews) {
  const Tensor base = counting({7, 30, 2 * 41});
  const Tensor view = base.view_as({41, 7, 15}, {2, base.strides()[0], 2 * base.strides()[1]}, base.offset() + 1);
  const auto doubled = mul(view, 2).to_vector<float>();
  std::size_t position = 0;
  for (std::int64_t i = 0; i < 41; ++i) {
    for (std::int64_t j = 0; j < 7; ++j) {
      for (std::int64_t k = 0; k < 15; ++k) {
        const std::int64_t element = j * 30 * 82 + 2 * k * 82 + 2 * i + 1;
        ASSERT_EQ(doubled[position++], static_cast<float>(2 * element)) << i << ", " << j << ", " << k;
      }
    }
  }
}

TEST(Elementwise, MixesElementTypes) {
  const Tensor x = counting({rows, columns}, DType::bf16), row = full({columns}, 100, DType::bf16);
  const Tensor low = less(x, row);
  ASSERT_EQ(low.dtype(), DType::boolean);
  const auto values = cast_data(where(low, x, row), DType::f32).to_vector<float>();
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], i < 100 ? static_cast<float>(i) : 100.0f);
}

TEST(Elementwise, KeepsEightDims) {
  const Tensor x = counting({2, 3, 1, 2, 2, 1, 2, 3}), y = counting({3, 1, 2, 1, 1, 2, 3});
  const auto sums = add(x, y).to_vector<float>();
  for (std::size_t i = 0; i < sums.size(); ++i) {  // i = ((((a 3 + b) 2 + d) 2 + e) 2 + g) 3 + h
    const std::size_t h = i % 3, g = i / 3 % 2, d = i / 12 % 2, b = i / 24 % 3;
    ASSERT_EQ(sums[i], static_cast<float>(i + ((b * 2 + d) * 2 + g) * 3 + h));
  }
}

TEST(Elementwise, NaNPropagates) {
  const Tensor nan = full({}, not_a_number), one = ones({});
  for (const Tensor& y : {nan + one,
                          nan - one,
                          nan * zeros({}),
                          nan / one,
                          maximum(nan, one),
                          maximum(one, nan),
                          minimum(nan, one),
                          minimum(one, nan),
                          abs(nan),
                          sign(nan),
                          relu(nan),
                          clamp(nan, -1, 1),
                          exp(nan),
                          log(nan),
                          tanh(nan),
                          sigmoid(nan),
                          silu(nan),
                          softplus(nan),
                          erf(nan),
                          gelu(nan),
                          gelu(nan, GeluForm::tanh),
                          round(nan),
                          floor(nan),
                          pow(nan, 2),
                          sqrt(nan),
                          dropout(nan, 0.999, {.seed = 1})}) {
    EXPECT_TRUE(std::isnan(y.item()));
  }
}

TEST(Elementwise, WhereStopsNaNInBothDirections) {
  Tape tape;
  const Tensor a = tape.watch(full({3}, not_a_number)), b = tape.watch(ones({3}));
  const Tensor never = cast_data(zeros({3}), DType::boolean);
  const Tensor y = where(never, log(a) * a, b);
  EXPECT_EQ(y.to_vector<float>(), std::vector<float>({1, 1, 1}));
  const Gradients grads = tape.backward(sum(y));
  EXPECT_EQ(grads[b].to_vector<float>(), std::vector<float>({1, 1, 1}));

  // What reaches the branch not taken is exactly 0, even when the gradient itself is NaN.
  Tape other;
  const Tensor c = other.watch(ones({2})), d = other.watch(ones({2}));
  const Tensor z = where(cast_data(ones({2}), DType::boolean), c, d);
  EXPECT_EQ(other.backward(z, full({2}, not_a_number))[d].to_vector<float>(), std::vector<float>({0, 0}));
}

TEST(Elementwise, TiesAndKinksHaveTheDocumentedGradients) {
  Tape tape;
  const Tensor a = tape.watch(full({}, 2)), b = tape.watch(full({}, 2)), zero = tape.watch(zeros({}));
  const Tensor y =
      maximum(a, b) + minimum(a, b) * 10 + relu(zero) + abs(zero) + pow(zero, 0) + pow(a, zero) + clamp(b, 2, 3) * 100;
  const Gradients grads = tape.backward(y);
  EXPECT_TRUE(std::abs(grads[a].item() - 5.5) <= 1e-6);
  EXPECT_TRUE(std::abs(grads[b].item() - 105.5) <= 1e-5);
  EXPECT_TRUE(std::abs(grads[zero].item() - std::log(2.0)) <= 1e-6);
}

TEST(Elementwise, PowerAtZeroHasFiniteGradients) {
  Tape tape;
  const Tensor base = tape.watch(zeros({2})), exponent = tape.watch(from_values<float>({0, 2}, {2}));
  const Gradients grads = tape.backward(sum(pow(base, exponent)));
  EXPECT_EQ(grads[base].to_vector<float>(), std::vector<float>({0, 0}));
  EXPECT_EQ(grads[exponent].to_vector<float>(), std::vector<float>({0, 0}));
}

TEST(Elementwise, ChangingASavedOperandIsAnError) {
  Tape tape;
  Tensor x = tape.watch(ones({3}));
  const Tensor y = sum(gelu(x));
  fill(x, 2);
  try {
    tape.backward(y);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("gelu"), std::string::npos) << error.what();
  }
}

TEST(Dropout, ElementUsesItsOwnRandomNumber) {
  constexpr std::int64_t count = 1'000'001;  // many tasks, and not a multiple of a block of random numbers
  const Random random{.seed = 5, .purpose = Purpose::dropout, .stream = 1};
  const auto y = dropout(ones({count}), 0.3, random).to_vector<float>();
  std::int64_t kept = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    ASSERT_EQ(y[i], random.uniform(i) >= 0.3 ? static_cast<float>(1 / 0.7) : 0.0f) << "at " << i;
    kept += y[i] != 0;
  }
  const double deviation = std::sqrt(count * 0.3 * 0.7);
  EXPECT_TRUE(std::abs(static_cast<double>(kept) - 0.7 * count) <= 5 * deviation) << kept;
}

TEST(Dropout, MaskDependsOnTheElementAlone) {
  const Random random{.seed = 5, .purpose = Purpose::dropout, .stream = 9};
  const auto whole = dropout(ones({rows, columns}), 0.5, random).to_vector<float>();
  const auto turned = dropout(transposed(ones({columns, rows})), 0.5, random).to_vector<float>();
  const auto start = dropout(ones({1001}), 0.5, random).to_vector<float>();
  const auto wide = cast_data(dropout(ones({rows, columns}, DType::bf16), 0.5, random), DType::f32).to_vector<float>();
  EXPECT_EQ(whole, turned);
  EXPECT_EQ(whole, wide);
  EXPECT_TRUE(std::equal(start.begin(), start.end(), whole.begin()));
  EXPECT_NE(whole, dropout(ones({rows, columns}), 0.5, {.seed = 5, .purpose = Purpose::dropout}).to_vector<float>());
}

TEST(Dropout, ForwardAndBackwardUseOneMask) {
  Tape tape;
  const Tensor x = tape.watch(ones({rows, columns}));
  const Tensor y = dropout(x, 0.4, {.seed = 2}), z = drop_path(x, 0.4, {.seed = 3});
  EXPECT_EQ(tape.backward(sum(y), {.retain = true})[x].to_vector<float>(), y.to_vector<float>());
  EXPECT_EQ(tape.backward(sum(z))[x].to_vector<float>(), z.to_vector<float>());
}

}  // namespace
}  // namespace vitrine
