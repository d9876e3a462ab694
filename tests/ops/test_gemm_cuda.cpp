// Matrix products on CUDA against the CPU in f64: gemm_cuda itself, then matmul and linear, which
// are built on it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "op_table/op_table.h"
#include "ops/ops.h"
#include "ops/product/gemm_cuda.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"

#if defined(VT_HOST_CUDA)
#include <cublasLt.h>
#endif

#if VT_CUDA
namespace vitrine {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr DType dtypes[] = {DType::f64, DType::f32, DType::bf16};

class GemmCuda : public CudaTest {
 protected:
  void TearDown() override {
    set_allow_tf32(false);
    set_gemm_autotune(false);
  }
};

/// Rounding of sums of a few hundred products, relative to the largest result; bf16 also rounds the
/// result.
double bound_of(DType dtype) {
  if (dtype == DType::f64) return 1e-13;
  return dtype == DType::f32 ? 4e-6 : 0x1p-8;
}

/// The same for `product` (without the bias) + bias = `y`, both exact. On an H200, cublasLt 13.1
/// rounds the product to bf16 before it adds the bias where an operand's rows are not aligned to 16
/// bytes (there its kernels have no epilogue, and a second one reads what the first has stored).
/// Each of the two roundings is off by 2^-8 of what it rounds at most, so that a large product that
/// the bias nearly cancels leaves more than one rounding of the sum.
double bound_with_bias(DType dtype, const Tensor& product, const Tensor& y) {
  if (dtype != DType::bf16) return bound_of(dtype);
  return bound_of(dtype) * (1 + amax(abs(product)).item() / amax(abs(y)).item());
}

Tensor rounded(const Tensor& x, DType dtype) { return cast_data(cast_data(x, dtype), DType::f64); }

/// The elements of x (batch, rows, columns) on the device as a product reads them: in rows that are
/// `extra` elements longer than necessary and end in NaN, `shift` elements after an address that is
/// aligned to 256 bytes.
struct Operand {
  Operand(const Tensor& x, DType dtype, bool transposed, std::int64_t extra, std::int64_t shift = 0) {
    const Tensor stored = transposed ? transpose(x) : x;
    shape = stored.shape();
    leading = stored.size(2) + extra;
    stride = stored.size(1) * leading;
    offset = shift;
    Tensor padded = full({shift + stored.size(0) * stride}, nan, DType::f64);
    Tensor inside = padded.view_as(shape, {stride, leading, 1}, offset);
    copy_into(inside, stored);
    memory = to_device(cast_data(padded, dtype), cuda());
    view = {elements().raw_data(), leading, transposed};
  }
  Tensor elements() const { return memory.view_as(shape, {stride, leading, 1}, offset); }

  Tensor memory;
  Shape shape;
  std::int64_t leading = 0, stride = 0, offset = 0;
  MatrixView<void> view{};
};

struct Sizes {
  std::int64_t m, n, k, batch = 1;
};
struct Options {
  bool transpose_a = false, transpose_b = false;
  double beta = 0;
  std::int64_t extra = 0, shift = 0;
  bool one_a = false, one_b = false;  // one matrix for the whole batch
};

/// Runs one product and compares it; what lies between the rows of c must stay as it was.
void check_product(const Sizes& size, DType dtype, const Options& options) {
  SCOPED_TRACE(fmt::format("m {} n {} k {} batch {} {}, transposed {} {}, beta {}, extra {}, shift {}", size.m, size.n,
                           size.k, size.batch, name_of(dtype), options.transpose_a, options.transpose_b, options.beta,
                           options.extra, options.shift));
  const Tensor a = rounded(test_values({options.one_a ? 1 : size.batch, size.m, size.k}, 1), dtype);
  const Tensor b = rounded(test_values({options.one_b ? 1 : size.batch, size.k, size.n}, 2), dtype);
  const Tensor c = options.beta == 0 ? full({size.batch, size.m, size.n}, nan, DType::f64)
                                     : rounded(test_values({size.batch, size.m, size.n}, 3), dtype);
  const Operand left(a, dtype, options.transpose_a, options.extra, options.shift);
  const Operand right(b, dtype, options.transpose_b, options.extra, options.shift);
  const Operand result(c, dtype, false, options.extra, options.shift);
  gemm_cuda({.m = size.m,
             .n = size.n,
             .k = size.k,
             .batch = size.batch,
             .dtype = dtype,
             .a = left.view,
             .b = right.view,
             .c = result.elements().raw_data(),
             .c_leading = result.leading,
             .a_stride = options.one_a ? 0 : left.stride,
             .b_stride = options.one_b ? 0 : right.stride,
             .c_stride = result.stride,
             .beta = options.beta});
  Tensor expected = matmul(a, b);
  if (options.beta != 0) expected = expected + c * options.beta;
  const double error = relative_error(to_device(result.elements(), cpu), expected);
  EXPECT_TRUE(error <= bound_of(dtype)) << "error " << error;
  const auto memory = cast_data(to_device(result.memory, cpu), DType::f64).to_vector<double>();
  const auto untouched = std::count_if(memory.begin(), memory.end(), [](double x) { return std::isnan(x); });
  EXPECT_EQ(untouched, options.shift + size.batch * size.m * options.extra);
}

TEST_F(GemmCuda, EverySizeOrderAndDtype) {
  const Sizes sizes[] = {{1, 1, 1},    {3, 5, 7},     {1, 17, 9},  {33, 1, 20},    {5, 64, 1},   {1, 1, 300},
                         {64, 32, 16}, {65, 70, 129}, {3, 4, 700}, {130, 192, 96}, {2, 3, 4, 5}, {17, 9, 33, 3}};
  for (const DType dtype : dtypes) {
    for (const Sizes& size : sizes) {
      for (const bool transpose_a : {false, true}) {
        for (const bool transpose_b : {false, true}) {
          check_product(size, dtype, {.transpose_a = transpose_a, .transpose_b = transpose_b});
          check_product(size, dtype,
                        {.transpose_a = transpose_a, .transpose_b = transpose_b, .beta = 0.5, .extra = 3, .shift = 1});
        }
      }
    }
  }
}

TEST_F(GemmCuda, LargeProduct) {
  for (const DType dtype : dtypes) check_product({257, 320, 512}, dtype, {.transpose_b = true});
}

TEST_F(GemmCuda, OneMatrixForABatch) {
  for (const DType dtype : dtypes) {
    check_product({4, 6, 5, 7}, dtype, {});  // the plan of this one does not fit the next
    check_product({4, 6, 5, 7}, dtype, {.one_a = true});
    check_product({4, 6, 5, 7}, dtype, {.one_b = true});
    check_product({4, 6, 5, 7}, dtype, {.transpose_b = true, .one_b = true});
    check_product({4, 6, 5, 7}, dtype, {.beta = 1, .one_a = true, .one_b = true});
  }
}

TEST_F(GemmCuda, MoreBatchesThanAGridHasBlocks) {
  check_product({2, 1, 3, 140000}, DType::f32, {});
  check_product({1, 2, 2, 70000}, DType::bf16, {.transpose_a = true, .one_b = true});
}

TEST_F(GemmCuda, EveryAlignment) {
  for (const DType dtype : dtypes) {
    for (const std::int64_t shift : {1, 2, 4, 8, 16, 32, 64}) {
      check_product({16, 24, 32}, dtype, {.extra = 8, .shift = shift});
    }
  }
}

/// a (m, k) b (k, n) + bias in one call, if cublasLt can do that; the bias starts at `shift`.
std::optional<Tensor> run_with_bias(const Sizes& size, DType dtype, const Tensor& a, const Tensor& b,
                                    const Tensor& bias, std::int64_t shift) {
  const Operand left(a, dtype, false, 0), right(b, dtype, false, 0);
  const Operand vector(reshape(bias, {1, 1, -1}), dtype, false, 0, shift);
  const Operand result(full({1, size.m, size.n}, nan, DType::f64), dtype, false, 0);
  const CudaProduct product{.m = size.m,
                            .n = size.n,
                            .k = size.k,
                            .dtype = dtype,
                            .a = left.view,
                            .b = right.view,
                            .c = result.elements().raw_data(),
                            .c_leading = result.leading,
                            .epilogue = GemmEpilogue::bias,
                            .bias = vector.elements().raw_data()};
  if (!gemm_cuda_supports(product)) return std::nullopt;
  gemm_cuda(product);
  return to_device(result.elements(), cpu);
}

TEST_F(GemmCuda, Bias) {
  for (const DType dtype : dtypes) {
    for (const Sizes& size :
         {Sizes{1, 1, 1}, Sizes{5, 3, 2}, Sizes{1, 40, 7}, Sizes{33, 64, 129}, Sizes{64, 96, 128}}) {
      for (const std::int64_t shift : {0, 1}) {
        SCOPED_TRACE(fmt::format("m {} n {} k {} {}, shift {}", size.m, size.n, size.k, name_of(dtype), shift));
        const Tensor a = rounded(test_values({1, size.m, size.k}, 1), dtype);
        const Tensor b = rounded(test_values({1, size.k, size.n}, 2), dtype);
        const Tensor bias = rounded(test_values({size.n}, 3), dtype);
        const auto y = run_with_bias(size, dtype, a, b, bias, shift);
        const bool is_plain = shift == 0 && size.k == 128;  // the others may be refused
        EXPECT_TRUE(y || !is_plain || dtype == DType::f64);
        const Tensor product = matmul(a, b), expected = product + bias;
        const double bound = bound_with_bias(dtype, product, expected);
        const double error = y ? relative_error(*y, expected) : 0;
        EXPECT_TRUE(error <= bound) << error << " of " << bound;
      }
    }
  }
}

TEST_F(GemmCuda, PlansAProductOnce) {
  const Tensor a = to_device(test_values({37, 41}, 1), cuda()), b = to_device(test_values({43, 41}, 2), cuda());
  const Tensor once = matmul(a, transpose(b));
  const std::int64_t plans = gemm_cuda_plan_count();
  const auto allocations = memory_statistics(cuda()).requests;
  const Tensor twice = matmul(a, transpose(b));
  EXPECT_EQ(gemm_cuda_plan_count(), plans);
  EXPECT_EQ(memory_statistics(cuda()).requests, allocations + 1) << "only the result is allocated";
  EXPECT_EQ(once.to_vector<double>(), twice.to_vector<double>());
  matmul(a, clone(transpose(b)));
  EXPECT_EQ(gemm_cuda_plan_count(), plans + 1) << "another order is another product";
}

TEST_F(GemmCuda, F32IsExactUntilTf32IsAllowed) {
  const Tensor a = to_device(full({16, 8}, 1 + 0x1p-14, DType::f32), cuda());
  const Tensor b = to_device(ones({8, 16}), cuda());
  EXPECT_EQ(matmul(a, b).to_vector<float>()[17], 8 + 0x1p-11f);
  const std::int64_t plans = gemm_cuda_plan_count();
  set_allow_tf32(true);
  EXPECT_NEAR(matmul(a, b).to_vector<float>()[17], 8, 0x1p-7);
  EXPECT_EQ(gemm_cuda_plan_count(), plans + 1);
  set_allow_tf32(false);
  EXPECT_EQ(matmul(a, b).to_vector<float>()[17], 8 + 0x1p-11f);
}

TEST_F(GemmCuda, AutotuningTriesOnAScratchResult) {
  const Tensor a = cast_data(test_values({50, 60}, 1), DType::f32), b = cast_data(test_values({60, 70}, 2), DType::f32);
  const Tensor left = to_device(a, cuda()), right = to_device(b, cuda());
  const auto plain = matmul(left, right).to_vector<float>();
  const std::int64_t plans = gemm_cuda_plan_count();
  set_gemm_autotune(true);
  EXPECT_LE(relative_error(to_device(matmul(left, right), cpu), matmul(a, b)), bound_of(DType::f32));
  EXPECT_EQ(gemm_cuda_plan_count(), plans + 1);
  for (const DType dtype : dtypes) check_product({31, 29, 37, 3}, dtype, {.beta = 2, .extra = 1});
  set_gemm_autotune(false);
  EXPECT_EQ(matmul(left, right).to_vector<float>(), plain) << "the untuned plan has been kept";
}

#if defined(VT_HOST_CUDA)
/// Whether there is an algorithm where the played cublasLt says of the first `failed` of its two
/// that they are no good.
bool is_supported(int failed) {
  const Sizes size{24, 6, 9 + failed};
  const Tensor a = test_values({1, size.m, size.k}, 1), b = test_values({1, size.k, size.n}, 2);
  host_cuda::set_failed_candidates(failed);
  const auto result = run_with_bias(size, DType::f32, a, b, zeros({size.n}, DType::f64), 0);
  host_cuda::set_failed_candidates(0);
  EXPECT_TRUE(!result || relative_error(*result, matmul(a, b)) <= bound_of(DType::f32));
  return result.has_value();
}

TEST_F(GemmCuda, CandidatesThatFailedAreLeftOut) {
  for (const bool autotune : {false, true}) {
    set_gemm_autotune(autotune);
    EXPECT_TRUE(is_supported(1)) << "the second candidate is good";
    EXPECT_FALSE(is_supported(2)) << "none is good";
  }
  set_gemm_autotune(false);
}
#endif

// ---- matmul ----

/// Calls on the device with operands in `dtype`, and on the CPU in f64 with the same values.
void check_matmul(const std::string& what, const Tensor& a, const Tensor& b,
                  const std::function<Tensor(const Tensor&, const Tensor&)>& call, int copies = 0) {
  for (const DType dtype : dtypes) {
    SCOPED_TRACE(fmt::format("{} in {}", what, name_of(dtype)));
    const Tensor left = to_device(cast_data(a, dtype), cuda()), right = to_device(cast_data(b, dtype), cuda());
    call(left, right);  // makes what is allocated once
    const auto before = memory_statistics(cuda()).requests;
    const Tensor got = call(left, right);
    EXPECT_EQ(memory_statistics(cuda()).requests - before, static_cast<std::uint64_t>(1 + copies));
    EXPECT_EQ(got.dtype(), dtype);
    EXPECT_LE(relative_error(to_device(got, cpu), call(rounded(a, dtype), rounded(b, dtype))), bound_of(dtype));
  }
}

TEST_F(GemmCuda, MatmulReadsBatchesInPlace) {
  const auto product = [](const Tensor& a, const Tensor& b) { return matmul(a, b); };
  check_matmul("batches", test_values({6, 5, 4}, 1), test_values({6, 4, 3}, 2), product);
  check_matmul("one for many", test_values({5, 4}, 1), test_values({6, 2, 4, 3}, 2), product);
  check_matmul("two groups", test_values({6, 1, 5, 4}, 1), test_values({3, 4, 2}, 2), product);
  check_matmul("three groups", test_values({2, 1, 3, 5, 4}, 1), test_values({1, 4, 1, 4, 2}, 2), product);
  check_matmul("permuted", test_values({3, 5, 2, 4}, 1), test_values({3, 7, 2, 4}, 2),
               [](const Tensor& a, const Tensor& b) {
                 return matmul(permute(a, {0, 2, 1, 3}), permute(b, {0, 2, 3, 1}));  // heads out of (B, N, H, D)
               });
  check_matmul("sliced", test_values({4, 9, 8}, 1), test_values({4, 8, 9}, 2),
               [](const Tensor& a, const Tensor& b) { return matmul(slice(a, 1, 2, 7), slice(b, 2, 1, 6)); });
}

TEST_F(GemmCuda, MatmulCopiesWhatNoOrderFits) {
  const auto every_second = [](const Tensor& x) {  // neither rows nor columns are dense
    const Strides& strides = x.strides();
    return x.view_as({x.size(0) / 2, x.size(1) / 2}, {2 * strides[0], 2 * strides[1]}, x.offset() + 1);
  };
  check_matmul(
      "steps of two", test_values({8, 10}, 1), test_values({5, 6}, 2),
      [&](const Tensor& a, const Tensor& b) { return matmul(every_second(a), b); }, 1);
  check_matmul(
      "one value", test_values({4, 5}, 1), test_values({1}, 2),
      [&](const Tensor& a, const Tensor& b) {
        return matmul(a, b.view_as({5, 6}, {0, 0}, b.offset()));
      },
      1);
}

TEST_F(GemmCuda, MatmulNamesTheDevices) {
  EXPECT_EQ(error_of([] {
              matmul(zeros({2, 3}), zeros({3, 2}, DType::f32, cuda()));
            }),
            "matmul: operands of shapes (2, 3) and (3, 2) are on cpu and cuda:0, expected one device");
  EXPECT_EQ(error_of([] {
              linear(zeros({2, 3}, DType::f32, cuda()), zeros({4, 3}));
            }),
            "linear: operands of shapes (2, 3) and (4, 3) are on cuda:0 and cpu, expected one device");
  EXPECT_EQ(error_of([] {
              linear(zeros({2, 3}, DType::f32, cuda()), zeros({4, 3}, DType::f32, cuda()), zeros({4}));
            }),
            "linear: operands of shapes (2, 3) and (4) are on cuda:0 and cpu, expected one device");
}

// ---- linear ----

/// y, dx, dweight and, with a bias, dbias
Tensors run_linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, const Tensor& dy) {
  Tape tape;
  const Tensor input = tape.watch(x), matrix = tape.watch(weight);
  const OptionalTensor vector = bias ? OptionalTensor(tape.watch(*bias)) : std::nullopt;
  const Tensor y = linear(input, matrix, vector);
  const Gradients grads = tape.backward(y, dy);
  Tensors results{y, grads[input], grads[matrix]};
  if (vector) results.push_back(grads[*vector]);
  return results;
}

TEST_F(GemmCuda, LinearForwardAndBackward) {
  const Sizes sizes[] = {{1, 1, 1}, {7, 5, 3}, {1, 10, 64}, {65, 48, 33}, {200, 96, 32}};
  for (const DType dtype : dtypes) {
    for (const Sizes& size : sizes) {
      for (const bool with_bias : {true, false}) {
        SCOPED_TRACE(fmt::format("m {} n {} k {} {}", size.m, size.n, size.k, name_of(dtype)));
        const Tensor x = test_values({size.m, size.k}, 1), weight = test_values({size.n, size.k}, 2);
        const Tensor bias = test_values({size.n}, 3), dy = test_values({size.m, size.n}, 4);
        const auto on = [&](const Tensor& t) { return to_device(cast_data(t, dtype), cuda()); };
        const auto got = run_linear(on(x), on(weight), with_bias ? OptionalTensor(on(bias)) : std::nullopt, on(dy));
        const auto exact = [&](const Tensor& t) { return rounded(t, dtype); };
        const auto expected =
            run_linear(exact(x), exact(weight), with_bias ? OptionalTensor(exact(bias)) : std::nullopt, exact(dy));
        ASSERT_EQ(got.size(), expected.size());
        const Tensor product = with_bias ? expected[0] - exact(bias) : expected[0];
        for (std::size_t i = 0; i < got.size(); ++i) {
          const double bound = i == 0 ? bound_with_bias(dtype, product, expected[0]) : bound_of(dtype);
          EXPECT_LE(relative_error(to_device(got[i], cpu), expected[i]), bound) << "result " << i;
        }
      }
    }
  }
}

/// d/dx of the squares of all gradients of linear: what an outer tape sees of the backward.
Tensors second_derivatives(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tape outer;
  const Tensor input = outer.watch(x), matrix = outer.watch(weight);
  Tape inner;
  const Tensor xi = inner.watch(input), wi = inner.watch(matrix), bi = inner.watch(bias);
  const Tensor y = linear(xi, wi, bi);
  const Gradients grads = inner.backward(sum(y * y));
  const Tensor total = sum(grads[xi] * grads[xi]) + sum(grads[wi] * grads[wi]) + sum(grads[bi] * grads[bi]);
  const Gradients second = outer.backward(total);
  return {second[input], second[matrix]};
}

TEST_F(GemmCuda, LinearCanBeDifferentiatedTwice) {
  const Tensor x = test_values({4, 3}, 1), weight = test_values({5, 3}, 2), bias = test_values({5}, 3);
  const auto on = [](const Tensor& t) { return to_device(cast_data(t, DType::f32), cuda()); };
  const Tensors got = second_derivatives(on(x), on(weight), on(bias)), expected = second_derivatives(x, weight, bias);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_LE(relative_error(to_device(got[i], cpu), expected[i]), 1e-5);
}

}  // namespace
}  // namespace vitrine
#endif
