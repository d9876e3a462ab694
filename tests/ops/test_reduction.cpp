// Reductions where the op table does not reach: long sums in f32, values far from zero, NaN and
// infinity.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "op_table/op_table.h"
#include "ops/ops.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Tensor row_of(std::initializer_list<double> values) {
  return from_values<double>(values, {static_cast<std::int64_t>(values.size())});
}

TEST(Reduction, LongSumsKeepTheirDigits) {
  const Tensor x = cast_data(test_values({1000, 1000}, 1, 0.5, 1.5), DType::f32);  // a plain float sum errs by 1e-3
  const auto values = x.to_vector<float>();
  double total = 0, first_column = 0;
  for (const float value : values) total += value;
  for (std::size_t row = 0; row < 1000; ++row) first_column += values[row * 1000];
  EXPECT_TRUE(std::abs(sum(x).item() - total) <= 2e-7 * total);
  EXPECT_TRUE(std::abs(select(sum(x, {0}), 0, 0).item() - first_column) <= 2e-7 * first_column);
  EXPECT_TRUE(std::abs(mean(transpose(x)).item() - total / 1e6) <= 2e-7);
}

TEST(Reduction, VarianceFarFromZero) {
  // Multiples of 1/8 around 2^20 are exact in f32, so the variance is that of the multiples.
  Tensor x = empty({3, 64}), centered = empty({3, 64}, DType::f64);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const double offset = static_cast<double>((i * 37) % 29) / 8;
    x.data<float>()[i] = static_cast<float>(1048576 + offset);
    centered.data<double>()[i] = offset;
  }
  const auto actual = var(x, {1}).to_vector<float>();
  const auto expected = var(centered, {1}).to_vector<double>();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(std::abs(actual[i] - expected[i]) <= 1e-6 * expected[i]);
}

TEST(Reduction, NanIsTheExtreme) {
  EXPECT_TRUE(std::isnan(amax(row_of({1, nan, 3})).item()));
  EXPECT_TRUE(std::isnan(amin(row_of({1, 3, nan})).item()));
  EXPECT_TRUE(std::isnan(amax(row_of({nan, 1, infinity})).item()));
  EXPECT_TRUE(std::isnan(sum(row_of({1, nan})).item()));
  EXPECT_TRUE(std::isnan(logsumexp(row_of({1, nan})).item()));
}

TEST(Reduction, MaximumOfIntegersAndTies) {
  EXPECT_EQ(amax(from_values<std::int64_t>({-7, -3, -5}, {3})).item(), -3);
  EXPECT_EQ(amin(from_values<std::int32_t>({7, 3, 5}, {3})).item(), 3);
  EXPECT_EQ(sum(from_values<std::int64_t>({1, 2, 3}, {3})).item(), 6);
  Tape tape;
  const Tensor x = tape.watch(row_of({1, 4, 4, 2}));
  EXPECT_EQ(tape.backward(amax(x))[x].to_vector<double>(), (std::vector<double>{0, 0.5, 0.5, 0}));
}

TEST(Reduction, LogSumExpAtTheEnds) {
  EXPECT_EQ(logsumexp(row_of({-infinity, -infinity})).item(), -infinity);
  EXPECT_EQ(logsumexp(row_of({infinity, 0})).item(), infinity);
  EXPECT_TRUE(std::abs(logsumexp(row_of({1000, 1000})).item() - (1000 + std::log(2.0))) <= 1e-12);
  EXPECT_TRUE(std::abs(logsumexp(row_of({-1000, -1000})).item() + 1000 - std::log(2.0)) <= 1e-12);
  Tape tape;
  const Tensor x = tape.watch(full({2, 3}, -infinity, DType::f64));
  EXPECT_EQ(tape.backward(sum(logsumexp(x, {1})))[x].to_vector<double>(), std::vector<double>(6, 0.0));
}

TEST(Reduction, MeanOfNothingIsNan) { EXPECT_TRUE(std::isnan(mean(zeros({0})).item())); }

#if VT_CUDA
using ReductionCuda = CudaTest;

// Rows and columns that the kernels read in packs of 16 bytes, and others that miss it by one
// element or one stride; in one piece (up to 1024 elements of a column) and in several.
TEST_F(ReductionCuda, PacksOfNeighbours) {
  struct Case {
    Shape shape;
    Dims dims;
    std::int64_t start;  // of a slice of the last dim
  };
  for (const auto& [shape, dims, start] :
       {Case{{5, 64}, {1}, 0}, Case{{5, 67}, {1}, 0}, Case{{5, 72}, {1}, 3}, Case{{20011}, {0}, 0},
        Case{{300, 48}, {0}, 0}, Case{{300, 50}, {0}, 0}, Case{{300, 48}, {0}, 8}, Case{{6, 16, 24}, {0, 2}, 0},
        Case{{6, 16, 24}, {1}, 0}, Case{{6, 16, 24}, {0, 1}, 0}, Case{{6, 5, 7}, {0, 2}, 0}, Case{{1024, 264}, {0}, 0},
        Case{{1025, 36}, {0}, 0}, Case{{2, 1100, 12}, {1}, 0}, Case{{3, 9, 5}, {1}, 0}}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      SCOPED_TRACE(fmt::format("{} over {}, from {}, {}", to_string(shape), to_string(dims), start, name_of(dtype)));
      const Tensor whole = cast_data(test_values(shape, 1), dtype);
      const Tensor here = slice(cast_data(whole, DType::f64), -1, start, shape.back());
      const Tensor there = slice(to_device(whole, cuda()), -1, start, shape.back());
      const double bound = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 0x1p-7;
      EXPECT_TRUE(relative_error(to_device(sum(there, dims), cpu), sum(here, dims)) <= bound);
      EXPECT_TRUE(relative_error(to_device(var(there, dims), cpu), var(here, dims)) <= bound);
      EXPECT_TRUE(relative_error(to_device(logsumexp(there, dims), cpu), logsumexp(here, dims)) <= bound);
      EXPECT_TRUE(relative_error(to_device(amax(there, dims), cpu), amax(here, dims)) <= 0);
    }
  }
}

TEST_F(ReductionCuda, TheFirstOfEqualsInPacks) {
  Tensor x = zeros({4, 64});
  for (std::int64_t row = 0; row < 4; ++row) {
    for (const std::int64_t place : {17 + row, 40 + row}) x.data<float>()[row * 64 + place] = 1;
  }
  const Tensor there = to_device(x, cuda());
  EXPECT_EQ(to_device(argmax(there, 1), cpu).to_vector<std::int64_t>(), (std::vector<std::int64_t>{17, 18, 19, 20}));
  const Tensor columns = to_device(argmax(transpose(there), 0), cpu);
  EXPECT_EQ(columns.to_vector<std::int64_t>(), (std::vector<std::int64_t>{17, 18, 19, 20}));
}
#endif

}  // namespace
}  // namespace vitrine
