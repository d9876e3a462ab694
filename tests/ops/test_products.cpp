// Matrix products that are large enough to be shared among threads: their values, and the same bits
// for any number of threads. (Those of the op table are each one task.)
#include <gtest/gtest.h>

#include <cmath>

#include "op_table/drivers.h"
#include "ops/ops.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

/// (rows, columns), the numbers in row-major order or the other way round.
Tensor make_matrix(std::int64_t rows, std::int64_t columns, bool transposed, DType dtype, std::uint64_t stream) {
  const Tensor values = cast_data(test_values(transposed ? Shape{columns, rows} : Shape{rows, columns}, stream), dtype);
  return transposed ? transpose(values, 0, 1) : values;
}

/// The largest difference to plain loops in double, beyond the rounding of the result, for each of
/// the products that are added up.
double worst_error(const Tensor& product, const Tensor& a, const Tensor& b) {
  const double rounding = product.dtype() == DType::bf16 ? 0x1p-8 : 0;  // bf16 is added up in f32 and rounded once
  const auto x = contiguous(cast_data(a, DType::f64)).to_vector<double>();
  const auto y = contiguous(cast_data(b, DType::f64)).to_vector<double>();
  const auto got = cast_data(product, DType::f64).to_vector<double>();
  const auto M = static_cast<std::size_t>(a.size(0)), K = static_cast<std::size_t>(a.size(1));
  const auto N = static_cast<std::size_t>(b.size(1));
  double worst = 0;
  for (std::size_t m = 0; m < M; ++m) {
    std::vector<double> row(N, 0.0);
    for (std::size_t k = 0; k < K; ++k) {
      for (std::size_t n = 0; n < N; ++n) row[n] += x[m * K + k] * y[k * N + n];
    }
    for (std::size_t n = 0; n < N; ++n) {
      const double error = (std::abs(got[m * N + n] - row[n]) - rounding * std::abs(row[n])) / static_cast<double>(K);
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

TEST(Products, AreRightAndTheSameForAnyNumberOfThreads) {
  const int threads = num_threads();
  struct Sizes {
    std::int64_t m, n, k;
  };
  for (const auto& [m, n, k] : {Sizes{300, 200, 150}, Sizes{8, 8, 5000}, Sizes{700, 65, 130}}) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      for (const int order : {0, 1, 2, 3}) {
        SCOPED_TRACE(fmt::format("m {} n {} k {} {} order {}", m, n, k, name_of(dtype), order));
        const Tensor a = make_matrix(m, k, order % 2 == 1, dtype, 1), b = make_matrix(k, n, order / 2 == 1, dtype, 2);
        set_num_threads(1);
        const Tensor one = matmul(a, b);
        const double error = worst_error(one, a, b);
        // Rounding errors mostly cancel: the order in which a processor's kernel adds leaves 1 to 5
        // of half an ulp here.
        EXPECT_TRUE(error <= 8 * (dtype == DType::f64 ? 0x1p-52 : 0x1p-23)) << error;
        for (const int more : {2, 3}) {
          set_num_threads(more);
          EXPECT_TRUE(same_bits(matmul(a, b), one)) << more << " threads";
        }
      }
    }
  }
  set_num_threads(threads);
}

TEST(Products, GradientsOfALinearLayerAreTheSameForAnyNumberOfThreads) {
  const int threads = num_threads();
  const auto gradients = [](int count, DType dtype) {
    set_num_threads(count);
    const Parameter weight(cast_data(test_values({200, 150}, 1), dtype)), bias(zeros({200}, dtype));
    Tape tape;
    const Gradients found =
        tape.backward(sum(square(linear(cast_data(test_values({6000, 150}, 2), dtype), weight, bias))));
    return std::pair{found[weight], found[bias]};
  };
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto [weight, bias] = gradients(1, dtype);
    for (const int more : {2, 3}) {
      const auto [other_weight, other_bias] = gradients(more, dtype);
      EXPECT_TRUE(same_bits(weight, other_weight) && same_bits(bias, other_bias))
          << name_of(dtype) << ", " << more << " threads";
    }
  }
  set_num_threads(threads);
}

}  // namespace
}  // namespace vitrine
