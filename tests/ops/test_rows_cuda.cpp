// Rows of every length that the kernels of LayerNorm, of bias and GELU, of softmax and of the
// losses tell apart, against the CPU in f64: rows that share a warp, few and many packs of 16 bytes
// a lane, a last pack that is not whole, rows that are too long for the registers, operands that
// are not aligned, more rows than the warps of several blocks.
#include <gtest/gtest.h>

#include "op_table/drivers.h"
#include "ops/ops.h"
#include "tests/support/cuda_test.h"

#if VT_CUDA
namespace vitrine {
namespace {

/// `shift` elements into a longer tensor.
Tensor shifted(const Tensor& x, std::int64_t shift) {
  Tensor longer = empty({x.numel() + shift}, x.dtype(), x.device());
  Tensor result = longer.view_as(x.shape(), contiguous_strides(x.shape()), shift);
  copy_into(result, x);
  return result;
}

struct LayerNormCuda : CudaTest {
  /// sum, norm and the four gradients of add_layer_norm where the sum goes on beside its norm.
  static Tensors results(const Tensors& inputs) {
    Tape tape;
    Tensors leaves;
    for (const Tensor& input : inputs) leaves.push_back(tape.watch(input));
    const auto [sum, norm] = add_layer_norm(leaves[0], leaves[1], leaves[2], leaves[3]);
    const Tensor y = sum * 0.5 + norm;
    const Tensor dy = cast_data(test_values(y.shape(), 9), y.dtype());
    const Gradients gradients = tape.backward(y, to_device(dy, y.device()));
    Tensors all{sum, norm};
    for (const Tensor& leaf : leaves) all.push_back(gradients[leaf]);
    for (Tensor& x : all) x = cast_data(to_device(x.detach(), cpu), DType::f64);
    return all;
  }

  static void expect_like_the_cpu(std::int64_t rows, std::int64_t D, DType dtype, std::int64_t shift = 0) {
    const Shape shape{rows, D};
    const Tensors inputs{test_values(shape, 1), test_values(shape, 2), test_values({D}, 3), test_values({D}, 4)};
    Tensors rounded, on_gpu;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const DType factors = dtype == DType::f64 ? DType::f64 : DType::f32;
      const Tensor x = cast_data(inputs[i], i < 2 ? dtype : factors);
      rounded.push_back(cast_data(x, DType::f64));
      on_gpu.push_back(shifted(to_device(x, cuda()), shift));
    }
    const Tensors expected = results(rounded), actual = results(on_gpu);
    const double bound = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 0x1p-6;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double largest = std::max(1.0, amax(abs(expected[i])).item());
      const double error = amax(abs(actual[i] - expected[i])).item();
      EXPECT_TRUE(error <= bound * largest)
          << "rows " << rows << ", D " << D << ", " << name_of(dtype) << ", result " << i << ": " << error;
    }
  }
};

TEST_F(LayerNormCuda, RowsOfAllLengths) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t D :
         {4, 7, 8, 12, 32, 40, 64, 96, 97, 128, 132, 192, 256, 264, 384, 520, 768, 1032, 1280, 1536, 1544}) {
      expect_like_the_cpu(11, D, dtype);
    }
  }
  for (const std::int64_t D : {8, 41}) expect_like_the_cpu(11, D, DType::f64);
}

TEST_F(LayerNormCuda, MoreRowsThanAreHeldAtOnce) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    expect_like_the_cpu(525, 32, dtype);  // backward in three blocks, in which no warp's last rows are whole
    expect_like_the_cpu(350, 96, dtype);
    expect_like_the_cpu(100, 384, dtype);
  }
  expect_like_the_cpu(2 * 1056 + 9, 520, DType::f32);  // forward holds 1056 of these: each warp has two or three
}

TEST_F(LayerNormCuda, SumsOfColumnsHaveTheSameBitsEachTime) {
  Tensors inputs{test_values({350, 96}, 1), test_values({350, 96}, 2), test_values({96}, 3), test_values({96}, 4)};
  for (Tensor& input : inputs) input = to_device(cast_data(input, DType::f32), cuda());
  const Tensors first = results(inputs), second = results(inputs);
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_TRUE(first[i].to_vector<double>() == second[i].to_vector<double>()) << "result " << i;
  }
}

TEST_F(LayerNormCuda, OperandsThatAreNotAligned) {
  expect_like_the_cpu(11, 64, DType::f32, 1);
  expect_like_the_cpu(11, 64, DType::bf16, 3);
}

// ---- Bias and GELU ----

struct BiasGeluCuda : CudaTest {
  static Tensors results(const Tensor& x, const Tensor& bias) {
    Tape tape;
    const Tensor x_leaf = tape.watch(x), bias_leaf = tape.watch(bias), y = bias_gelu(x_leaf, bias_leaf);
    const Tensor dy = cast_data(test_values(y.shape(), 9), y.dtype());
    const Gradients gradients = tape.backward(y, to_device(dy, y.device()));
    Tensors all{y, gradients[x_leaf], gradients[bias_leaf]};
    for (Tensor& result : all) result = cast_data(to_device(result.detach(), cpu), DType::f64);
    return all;
  }
};

TEST_F(BiasGeluCuda, RowsOfAllLengths) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const Shape& shape :
         {Shape{3, 7}, Shape{9, 264}, Shape{70, 8}, Shape{600, 16}, Shape{90, 384}, Shape{20, 520}}) {
      const Tensor x = cast_data(test_values(shape, 1), dtype), bias = cast_data(test_values({shape[1]}, 2), dtype);
      const Tensors expected = results(cast_data(x, DType::f64), cast_data(bias, DType::f64));
      const Tensors actual = results(to_device(x, cuda()), to_device(bias, cuda()));
      const double bound = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 0x1p-7;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double largest = std::max(1.0, amax(abs(expected[i])).item());
        const double error = amax(abs(actual[i] - expected[i])).item();
        EXPECT_TRUE(error <= bound * largest)
            << to_string(shape) << " " << name_of(dtype) << ", result " << i << ": " << error;
      }
    }
  }
}

// ---- Softmax and the losses: rows read 16 bytes at a time where they are whole packs ----

struct RowsCuda : CudaTest {
  /// f of the inputs, and its gradients.
  static Tensors results(const Call& f, const Tensors& inputs) {
    Tape tape;
    Tensors leaves;
    for (const Tensor& input : inputs) leaves.push_back(tape.watch(input));
    const Tensor y = f(leaves);
    const Tensor dy = cast_data(test_values(y.shape(), 9), y.dtype());
    const Gradients gradients = tape.backward(y, to_device(dy, y.device()));
    Tensors all{y};
    for (const Tensor& leaf : leaves) all.push_back(gradients[leaf]);
    for (Tensor& x : all) x = cast_data(to_device(x.detach(), cpu), DType::f64);
    return all;
  }

  static void expect_like_the_cpu(const Call& f, const Tensors& inputs, DType dtype, std::int64_t shift) {
    Tensors rounded, on_gpu;
    for (const Tensor& input : inputs) {
      const Tensor x = cast_data(input, dtype);
      rounded.push_back(cast_data(x, DType::f64));
      on_gpu.push_back(shifted(to_device(x, cuda()), shift));
    }
    const Tensors expected = results(f, rounded), actual = results(f, on_gpu);
    const double bound = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 0x1p-6;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double largest = std::max(1e-3, amax(abs(expected[i])).item());
      const double error = amax(abs(actual[i] - expected[i])).item();
      EXPECT_TRUE(error <= bound * largest) << to_string(inputs[0].shape()) << ", " << name_of(dtype) << ", shift "
                                            << shift << ", result " << i << ": " << error;
    }
  }

  /// For rows of whole packs, of one more element, and of whole packs that are not aligned.
  static void expect_like_the_cpu(const Call& f, std::size_t operands) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      for (const auto& [K, shift] : {std::pair{8, 0}, {1000, 0}, {39, 0}, {264, 1}}) {
        Tensors inputs{test_values({5, K}, 1, -4, 4)};
        if (operands > 1) inputs.push_back(test_values({5, K}, 2, 0, 1));
        expect_like_the_cpu(f, inputs, dtype, shift);
      }
    }
  }
};

TEST_F(RowsCuda, Softmax) {
  expect_like_the_cpu([](const Tensors& in) { return softmax(in[0]); }, 1);
  expect_like_the_cpu([](const Tensors& in) { return log_softmax(in[0]); }, 1);
}

TEST_F(RowsCuda, CrossEntropy) {
  const Tensor labels = from_vector(std::vector<std::int64_t>{0, 7, 3, 5, 1}, {5});
  for (const double smoothing : {0.0, 0.1}) {
    expect_like_the_cpu([=](const Tensors& in) { return cross_entropy(in[0], labels, smoothing); }, 1);
  }
  expect_like_the_cpu([](const Tensors& in) { return soft_cross_entropy(in[0], in[1]); }, 2);
}

}  // namespace
}  // namespace vitrine
#endif
