// Fused ops against their compositions, and at the ends of what floats can hold.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "op_table/op_table.h"
#include "ops/composed.h"
#include "ops/norm/reference.h"
#include "tests/support/compare.h"

namespace vitrine {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

void expect_equal(const Call& fused, const Call& composed, const Tensors& inputs) {
  const Tensors a = value_and_gradients(fused, inputs), b = value_and_gradients(composed, inputs);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].shape(), b[i].shape());
    const auto left = a[i].to_vector<double>(), right = b[i].to_vector<double>();
    for (std::size_t k = 0; k < left.size(); ++k) {
      EXPECT_TRUE(std::abs(left[k] - right[k]) <= 1e-12 * std::max(1.0, std::abs(right[k])))
          << "tensor " << i << ", " << k;
    }
  }
}

TEST(Fused, EqualsItsComposition) {
  for (const OpRow& row : op_table()) {
    if (!row.composition) continue;
    SCOPED_TRACE(row.op);
    const OpComposition composition = row.composition();
    expect_equal(composition.fused, composition.composed, composition.inputs);
  }
}

// In a pre-norm block the sum goes on beside its norm: dx of the norm is added in place to the
// gradient that is there first.
TEST(Fused, AddLayerNormAddsToTheGradientOfTheSum) {
  const Tensors inputs{test_values({6, 45}, 1), test_values({6, 45}, 2), test_values({45}, 3), test_values({45}, 4)};
  expect_equal(
      [](const Tensors& in) {
        const auto [sum, norm] = add_layer_norm(in[0], in[1], in[2], in[3]);
        return sum * in[0] + tanh(norm);
      },
      [](const Tensors& in) {
        const Tensor sum = in[0] + in[1];
        return sum * in[0] + tanh(layer_norm_composed(sum, in[2], in[3]));
      },
      inputs);
}

// The gradient that is there first may be visible to others too: here it is dy itself, which the
// caller still has.
TEST(Fused, LayerNormLeavesAGradientAloneThatOthersSee) {
  Tape tape;
  const Tensor x = tape.watch(test_values({3, 8}, 1)), ones_8 = ones({8}, DType::f64), zeros_8 = zeros({8}, DType::f64);
  const Tensor y = layer_norm(x, ones_8, zeros_8) + x;
  const Tensor dy = test_values({3, 8}, 2), before = clone(dy);
  tape.backward(y, dy);
  EXPECT_EQ(dy.to_vector<double>(), before.to_vector<double>());
}

/// The gradients of x, weight and bias for dy, as doubles.
std::vector<std::vector<double>> layer_norm_gradients(const Tensors& inputs, const Tensor& dy, double epsilon) {
  Tape tape;
  const Tensor x = tape.watch(inputs[0]), weight = tape.watch(inputs[1]), bias = tape.watch(inputs[2]);
  const Gradients grads = tape.backward(layer_norm(x, weight, bias, epsilon), dy);
  std::vector<std::vector<double>> values;
  for (const Tensor& input : {x, weight, bias}) {
    values.push_back(cast_data(grads[input], DType::f64).to_vector<double>());
  }
  return values;
}

// D is longer than the lanes and no multiple of them, and there are more rows than a task takes.
TEST(LayerNorm, GradientsEqualThePlainReference) {
  const double epsilon = 1e-3;
  for (const Shape& shape : {Shape{300, 75}, Shape{4, 1000}, Shape{7, 1}}) {
    for (const DType dtype : {DType::f64, DType::f32}) {
      SCOPED_TRACE(to_string(shape) + " in " + std::string(name_of(dtype)));
      const auto rounded = [&](const Tensor& values) { return cast_data(values, dtype); };
      const Tensors inputs{rounded(test_values(shape, 1)), rounded(test_values({shape.back()}, 2)),
                           rounded(test_values({shape.back()}, 3))};
      const Tensor dy = rounded(test_values(shape, 4));
      const auto values = [](const Tensor& x) { return cast_data(x, DType::f64).to_vector<double>(); };
      const auto expected = layer_norm_reference::backward(values(inputs[0]), values(inputs[1]), epsilon, values(dy));
      const auto actual = layer_norm_gradients(inputs, dy, epsilon);
      const double tolerance = dtype == DType::f64 ? 1e-12 : 2e-5;
      const std::vector<double>* oracles[] = {&expected.dx, &expected.dweight, &expected.dbias};
      for (std::size_t k = 0; k < 3; ++k) {
        ASSERT_EQ(actual[k].size(), oracles[k]->size());
        for (std::size_t i = 0; i < actual[k].size(); ++i) {
          const double value = (*oracles[k])[i], error = std::abs(actual[k][i] - value);
          EXPECT_TRUE(error <= tolerance * std::max(1.0, std::abs(value))) << "gradient " << k << ", " << i;
        }
      }
    }
  }
}

TEST(LayerNorm, IsExactFarFromZero) {
  // Rows of 2^20 plus multiples of 1/8, exact in f32: the result must be that of the multiples
  // alone.
  const std::int64_t D = 192;
  Tensor near = empty({2, D}), far = empty({2, D});
  for (std::int64_t i = 0; i < near.numel(); ++i) {
    near.data<float>()[i] = static_cast<float>((i * 37) % 61) / 8;
    far.data<float>()[i] = 1048576 + near.data<float>()[i];
  }
  const Tensor weight = ones({D}), bias = zeros({D});
  const auto gradient = [&](const Tensor& input) {
    Tape tape;
    const Tensor x = tape.watch(input);
    const Tensor y = layer_norm(x, weight, bias);
    return tape.backward(y, cast_data(test_values({2, D}, 5), DType::f32))[x].to_vector<float>();
  };
  const auto expected = layer_norm(near, weight, bias).to_vector<float>(), expected_dx = gradient(near);
  const auto actual = layer_norm(far, weight, bias).to_vector<float>(), actual_dx = gradient(far);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(std::abs(actual[i] - expected[i]) <= 2e-6);
    EXPECT_TRUE(std::abs(actual_dx[i] - expected_dx[i]) <= 2e-6);
  }
}

TEST(LayerNorm, AConstantRowGivesTheBias) {
  // A size and a value at which the mean, summed in f32, is not the value itself but 8 below.
  const auto y = layer_norm(full({1, 191}, 123456792), full({191}, 3), full({191}, 0.5)).to_vector<float>();
  for (const float value : y) EXPECT_TRUE(std::abs(value - 0.5f) <= 1e-5f);
}

TEST(LayerNorm, NanStaysInItsRow) {
  Tensor x = zeros({2, 3});
  x.data<float>()[4] = std::numeric_limits<float>::quiet_NaN();
  const auto y = layer_norm(x, ones({3}), zeros({3})).to_vector<float>();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(y[static_cast<std::size_t>(i)], 0.0f);
  for (int i = 3; i < 6; ++i) EXPECT_TRUE(std::isnan(y[static_cast<std::size_t>(i)]));
}

TEST(LayerNorm, NoticesAChangeOfWhatItSaved) {
  Tape tape;
  Tensor x = test_values({2, 3}, 1);
  const Tensor watched = tape.watch(x);
  const Tensor y = layer_norm(watched, ones({3}, DType::f64), zeros({3}, DType::f64));
  fill(x, 1);
  try {
    tape.backward(sum(y));
    FAIL() << "backward read a tensor that was changed";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("layer_norm"), std::string::npos) << error.what();
  }
}

TEST(Softmax, AFullyMaskedRowIsZeroWithGradientZero) {
  Tape tape;
  const Tensor x = tape.watch(full({2, 40}, -infinity));
  const Tensor y = softmax(x);
  EXPECT_EQ(y.to_vector<float>(), std::vector<float>(80, 0.0f));
  EXPECT_EQ(tape.backward(y, ones({2, 40}))[x].to_vector<float>(), std::vector<float>(80, 0.0f));
}

TEST(CrossEntropy, HoldsAtHugeLogits) {
  const Tensor logits = from_values<float>({1e4f, 0, -1e4f}, {1, 3});
  EXPECT_EQ(cross_entropy(logits, from_values<std::int64_t>({0}, {1})).item(), 0);
  EXPECT_EQ(cross_entropy(logits, from_values<std::int64_t>({2}, {1})).item(), 2e4);
}

}  // namespace
}  // namespace vitrine
