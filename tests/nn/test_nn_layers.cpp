// Layers: gradients of every layer in float64, values against naive loops, noise in training only,
// error messages.
#include "autograd/gradcheck.h"
#include "nn/layers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "models/vit.h"
#include "tensor/philox.h"

namespace vitrine {
namespace {

Tensor random_tensor(const Shape& shape, std::uint64_t stream) {
  Tensor x = empty(shape, DType::f64);
  fill_normal(x, 0, 1, {5, Purpose::test, stream});
  return x;
}

/// Gives all parameters, the constant ones too, values around their start, so that no gradient is
/// trivial.
template <Module M>
M perturbed(M module) {
  std::uint64_t stream = 100;
  for_each_parameter(module, [&](const std::string&, Parameter& p) {
    add_into(p.value(), mul(random_tensor(p.shape(), ++stream), 0.3));
  });
  return module;
}

/// Checks the gradients of layer(x) with respect to x and to every parameter.
template <Module M>
void expect_right_gradients(M layer, const Tensor& x, const std::function<Tensor(const M&, const Tensor&)>& call) {
  const GradcheckReport by_input = check_gradients([&](const auto& inputs) { return call(layer, inputs[0]); }, {x});
  EXPECT_TRUE(by_input.passed) << by_input.message;
  EXPECT_GT(by_input.entries, 0);
  const GradcheckReport by_parameter = check_parameter_gradients([&] { return call(layer, x); }, parameters(layer));
  EXPECT_TRUE(by_parameter.passed) << by_parameter.message;
  EXPECT_GT(by_parameter.entries, 0);
}

TEST(NnGradients, Linear) {
  Initializer init(1, DType::f64);
  for (const bool with_bias : {true, false}) {
    expect_right_gradients<Linear>(perturbed(Linear::make(3, 4, init, with_bias)), random_tensor({2, 2, 3}, 1),
                                   [](const auto& layer, const Tensor& x) { return layer(x); });
  }
}

TEST(NnGradients, LayerNorm) {
  Initializer init(1, DType::f64);
  expect_right_gradients<LayerNorm>(perturbed(LayerNorm::make(5, init)), random_tensor({2, 3, 5}, 1),
                                    [](const auto& layer, const Tensor& x) { return layer(x); });
}

TEST(NnGradients, MultiHeadAttention) {
  Initializer init(1, DType::f64);
  expect_right_gradients<MultiHeadAttention>(perturbed(MultiHeadAttention::make(6, 2, init)),
                                             random_tensor({2, 3, 6}, 1),
                                             [](const auto& layer, const Tensor& x) { return layer(x, Pass{}); });
}

TEST(NnGradients, Mlp) {
  Initializer init(1, DType::f64);
  expect_right_gradients<Mlp>(perturbed(Mlp::make(4, 6, init)), random_tensor({2, 2, 4}, 1),
                              [](const auto& layer, const Tensor& x) { return layer(x, Pass{}); });
}

TEST(NnGradients, PatchEmbed) {
  Initializer init(1, DType::f64);
  expect_right_gradients<PatchEmbed>(perturbed(PatchEmbed::make(2, 2, 3, init)), random_tensor({2, 2, 4, 6}, 1),
                                     [](const auto& layer, const Tensor& x) { return layer(x); });
}

TEST(NnGradients, BlockWithDropoutAndDropPath) {
  Initializer init(1, DType::f64);
  const ViTConfig config{.dim = 4, .heads = 2, .mlp_ratio = 2, .drop_rate = 0.3};
  expect_right_gradients<TransformerBlock>(perturbed(TransformerBlock::make(config, 0.4, init)),
                                           random_tensor({3, 2, 4}, 1), [](const auto& layer, const Tensor& x) {
                                             Generator generator{11};  // the same masks in every call
                                             return layer(x, Pass{.training = true, .generator = &generator});
                                           });
}

// ---- Values ----

TEST(NnLayers, PatchEmbedIsAConvolutionWithItsKernelAsStride) {
  Initializer init(1, DType::f64);
  constexpr std::int64_t C = 3, P = 2, D = 4, H = 4, W = 6;
  const PatchEmbed embed = PatchEmbed::make(C, P, D, init);
  const Tensor images = random_tensor({2, C, H, W}, 1);
  const auto x = images.to_vector<double>(), w = embed.proj.weight.value().to_vector<double>(),
             bias = embed.proj.bias.value().to_vector<double>();
  const Tensor y = embed(images);
  ASSERT_EQ(y.shape(), (Shape{2, 6, D}));
  const auto got = y.to_vector<double>();
  for (std::int64_t b = 0, at = 0; b < 2; ++b) {
    for (std::int64_t row = 0; row < H / P; ++row) {
      for (std::int64_t column = 0; column < W / P; ++column) {
        for (std::int64_t d = 0; d < D; ++d, ++at) {
          double sum = bias[static_cast<std::size_t>(d)];
          for (std::int64_t c = 0; c < C; ++c) {
            for (std::int64_t i = 0; i < P * P; ++i) {
              const std::int64_t pixel = ((b * C + c) * H + row * P + i / P) * W + column * P + i % P;
              sum += x[static_cast<std::size_t>(pixel)] * w[static_cast<std::size_t>((d * C + c) * P * P + i)];
            }
          }
          EXPECT_TRUE(std::abs(got[static_cast<std::size_t>(at)] - sum) <= 1e-12) << at;
        }
      }
    }
  }
}

TEST(NnLayers, NoiseActsOnlyInTraining) {
  const Tensor x = ones({1000, 4});
  const Dropout dropout{0.25};
  const DropPath drop_path{0.25};
  EXPECT_EQ(dropout(x, Pass{}).to_vector<float>(), x.to_vector<float>());
  EXPECT_EQ(drop_path(x, Pass{}).to_vector<float>(), x.to_vector<float>());

  Generator generator{3};
  const Pass training{.training = true, .generator = &generator};
  int dropped = 0;
  for (const float v : dropout(x, training).to_vector<float>()) {
    EXPECT_TRUE(v == 0 || std::abs(v - 1 / 0.75f) < 1e-6f) << v;
    dropped += v == 0;
  }
  EXPECT_NEAR(dropped, 1000, 110);  // four deviations of a binomial (4000, 1/4)
  const auto paths = drop_path(x, training).to_vector<float>();
  int samples = 0;
  for (std::size_t i = 0; i < paths.size(); i += 4) {
    EXPECT_TRUE(paths[i] == paths[i + 1] && paths[i] == paths[i + 2] && paths[i] == paths[i + 3]) << i;
    samples += paths[i] == 0;
  }
  EXPECT_NEAR(samples, 250, 55);
  EXPECT_EQ(generator.count, 2u);
  EXPECT_NE(dropout(x, training).to_vector<float>(), dropout(x, training).to_vector<float>());  // drawn anew
}

// ---- Errors ----

template <class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(NnLayers, ErrorsSayWhatIsExpected) {
  Initializer init(1);
  EXPECT_EQ(message_of([&] { Linear::make(0, 3, init); }), "Linear: sizes are 0 -> 3, expected sizes above 0");
  EXPECT_EQ(message_of([&] { MultiHeadAttention::make(10, 3, init); }),
            "MultiHeadAttention: dim 10 does not divide into 3 heads");
  EXPECT_EQ(message_of([&] { Mlp::make(4, 8, init, 1.0); }), "Mlp: rate is 1, expected 0 <= rate < 1");
  EXPECT_EQ(message_of([&] { Dropout{0.5}(ones({2}), Pass{.training = true}); }),
            "Dropout: training with rate 0.5 needs a generator in the Pass, which has none");
  const PatchEmbed embed = PatchEmbed::make(3, 4, 8, init);
  EXPECT_EQ(message_of([&] {
              embed(ones({2, 3, 8, 10}));
            }),
            "PatchEmbed: images have shape (2, 3, 8, 10), expected (B, 3, H, W) with H and W multiples of 4");
}

}  // namespace
}  // namespace vitrine
