// The rows of attention and self_attention.
#include <cmath>
#include <limits>

#include "op_table/attention_problem.h"
#include "op_table/op_table.h"
#include "ops/composed.h"

namespace vitrine {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// y = softmax(scale q k^T + bias) v by the plain loops of ops/attention/reference.h.
Tensor reference_attention(const Tensors& in, double scale) {
  const attention_reference::Problem x = attention_problem(in, scale);
  return from_vector(attention_reference::forward(x).y, in[0].shape());
}

Tensor call_attention(const Tensors& in) {
  return attention(in[0], in[1], in[2], in.size() > 3 ? OptionalTensor(in[3]) : std::nullopt);
}

OpCase heads(const std::string& name, std::int64_t B, std::int64_t H, std::int64_t N, std::int64_t M, std::int64_t D,
             const Tensors& bias = {}) {
  Tensors inputs{test_values({B, H, N, D}, 1), test_values({B, H, M, D}, 2), test_values({B, H, M, D}, 3)};
  inputs.insert(inputs.end(), bias.begin(), bias.end());
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  return {name, inputs, call_attention, [scale](const Tensors& in) { return reference_attention(in, scale); }};
}

/// A bias that hides the last key from every query, and all keys from the first query. No gradient
/// reaches it.
OpCase masked_case() {
  Tensor mask = zeros({3, 4});
  for (std::int64_t m = 0; m < 4; ++m) mask.data<float>()[m] = -static_cast<float>(infinity);
  for (std::int64_t n = 0; n < 3; ++n) mask.data<float>()[n * 4 + 3] = -static_cast<float>(infinity);
  OpCase op_case = heads("masked keys and a fully masked row", 1, 2, 3, 4, 2);
  op_case.call = [mask](const Tensors& in) {
    return attention(in[0], in[1], in[2], to_device(cast_data(mask, in[0].dtype()), in[0].device()));
  };
  op_case.reference = [mask](const Tensors& in) {
    return reference_attention({in[0], in[1], in[2], cast_data(mask, DType::f64)}, 1 / std::sqrt(2.0));
  };
  return op_case;
}

std::vector<OpCase> attention_cases() {
  std::vector<OpCase> cases{heads("one token", 1, 1, 1, 1, 2),
                            heads("square", 1, 2, 3, 3, 2),
                            heads("more keys than queries", 2, 1, 2, 5, 3),
                            heads("bias for every score", 1, 2, 2, 3, 2, {test_values({1, 2, 2, 3}, 4)}),
                            heads("bias for every head", 2, 2, 2, 2, 2, {test_values({2, 2, 2}, 5)}),
                            heads("bias for every sample", 2, 1, 2, 2, 2, {test_values({2, 1, 1, 2}, 6)}),
                            heads("two biases in turn", 4, 1, 1, 2, 1, {test_values({2, 1, 1, 2}, 8)}),
                            heads("three biases in turn for all heads", 6, 2, 1, 1, 1, {test_values({3, 1, 1, 1}, 9)}),
                            heads("bias for every key", 3, 1, 2, 2, 1, {test_values({2}, 7)}),
                            heads("no keys", 1, 1, 2, 0, 2),
                            heads("no queries", 1, 1, 0, 2, 2),
                            heads("no batch", 0, 1, 2, 2, 2),
                            masked_case()};
  OpCase scaled = heads("a scale of its own", 1, 1, 2, 3, 2);
  scaled.call = [](const Tensors& in) { return attention(in[0], in[1], in[2], std::nullopt, 0.3); };
  scaled.reference = [](const Tensors& in) { return reference_attention(in, 0.3); };
  cases.push_back(scaled);
  return cases;
}

/// qkv (B, N, 3 H D) taken apart element by element, and the result put together as (B, N, H D).
Tensor reference_self_attention(const Tensors& in, std::int64_t H) {
  const Tensor& qkv = in[0];
  const std::int64_t B = qkv.size(0), N = qkv.size(1), D = qkv.size(2) / (3 * H);
  Tensors parts;
  for (std::int64_t part = 0; part < 3; ++part) {
    Tensor x = empty({B, H, N, D}, DType::f64);
    for_each_index(x.shape(), [&](const Dims& i, std::int64_t position) {
      x.data<double>()[position] = value_at(qkv, {i[0], i[2], part * H * D + i[1] * D + i[3]});
    });
    parts.push_back(x);
  }
  parts.insert(parts.end(), in.begin() + 1, in.end());
  const Tensor heads_first = reference_attention(parts, 1 / std::sqrt(static_cast<double>(D)));
  Tensor y = empty({B, N, H * D}, DType::f64);
  for_each_index(y.shape(), [&](const Dims& i, std::int64_t position) {
    y.data<double>()[position] = value_at(heads_first, {i[0], i[2] / D, i[1], i[2] % D});
  });
  return y;
}

OpCase packed(const std::string& name, std::int64_t B, std::int64_t N, int H, std::int64_t D,
              const Tensors& bias = {}) {
  Tensors inputs{test_values({B, N, 3 * H * D}, 1)};
  inputs.insert(inputs.end(), bias.begin(), bias.end());
  return {
      name, inputs,
      [H](const Tensors& in) { return self_attention(in[0], H, in.size() > 1 ? OptionalTensor(in[1]) : std::nullopt); },
      [H](const Tensors& in) { return reference_self_attention(in, H); }};
}

OpBenchmark attention_benchmark(std::int64_t B, std::int64_t N, int H, std::int64_t D) {
  const auto size = static_cast<double>(B * N * H * D);
  return {fmt::format("({}, {}, 3 x {} x {})", B, N, H, D),
          {cast_data(test_values({B, N, 3 * H * D}, 1), DType::f32)},
          [H](const Tensors& in) { return self_attention(in[0], H); },
          4 * size * static_cast<double>(N),
          4 * 4 * size};
}

/// ViT-B/16 at 224 pixels, 32 images.
OpBenchmark image_benchmark() {
  const Tensor x = cast_data(test_values({32, 12, 197, 64}, 1), DType::f32);
  return {"(32, 12, 197, 64)", {x, x, x}, call_attention, 4.0 * 32 * 12 * 197 * 197 * 64, 4.0 * 4 * 32 * 12 * 197 * 64};
}

/// The first stage of Swin-T: 64 windows of 7 x 7 tokens in each of 8 images. Each window of an
/// image has a bias of its own, and the images take these biases in turn.
OpBenchmark window_benchmark() {
  Tensors inputs;
  for (std::uint64_t stream = 1; stream <= 3; ++stream) inputs.push_back(test_values({512, 3, 49, 32}, stream));
  inputs.push_back(test_values({64, 3, 49, 49}, 4));
  for (Tensor& x : inputs) x = cast_data(x, DType::f32);
  return {"(512, 3, 49, 32) + (64, 3, 49, 49)", inputs, call_attention, 4.0 * 512 * 3 * 49 * 49 * 32,
          4.0 * (4 * 512 * 3 * 49 * 32 + 64 * 3 * 49 * 49)};
}

}  // namespace

std::vector<OpRow> attention_rows() {
  const OpRow general{
      .op = "attention",
      .cases = attention_cases,
      .f32_tolerance = 2e-6,
      .errors =
          {{[] {
              attention(zeros({1, 2, 3, 4}), zeros({1, 2, 3, 5}), zeros({1, 2, 3, 5}));
            },
            "attention: q is (1, 2, 3, 4), k (1, 2, 3, 5) and v (1, 2, 3, 5), expected q (B, H, N, D)"},
           {[] {
              attention(zeros({1, 1, 2, 2}), zeros({1, 1, 3, 2}), zeros({1, 1, 3, 2}), zeros({2, 2}));
            },
            "attention: bias has shape (2, 2), expected one that broadcasts to (B, H, N, M) = (1, 1, 2, 3)"},
           {[] {
              attention(zeros({4, 1, 2, 2}), zeros({4, 1, 3, 2}), zeros({4, 1, 3, 2}), zeros({3, 1, 2, 3}));
            },
            "attention: bias has shape (3, 1, 2, 3), expected one that broadcasts to (B, H, N, M) = (4, 1, 2, 3), or G "
            "of them where G divides B"},
           {[] {
              attention(zeros({1, 1, 2, 2}), zeros({1, 1, 3, 2}), zeros({1, 1, 3, 2}, DType::f64));
            },
            "attention: q is f32, k f32, v f64 and bias absent, expected one of f32, f64, bf16"}},
      .benchmark = image_benchmark,
      .second_benchmark = window_benchmark,
      .composition = [] {
        return OpComposition{
            {test_values({2, 2, 5, 3}, 1), test_values({2, 2, 7, 3}, 2), test_values({2, 2, 7, 3}, 3),
             test_values({2, 5, 7}, 4)},
            call_attention,
            [](const Tensors& in) { return attention_composed(in[0], in[1], in[2], in[3], 1 / std::sqrt(3.0)); }};
      }};
  const OpRow fused{
      .op = "self_attention",
      .cases =
          [] {
            return std::vector<OpCase>{packed("one head", 1, 3, 1, 2),
                                       packed("two heads", 1, 3, 2, 2),
                                       packed("two samples", 2, 2, 2, 1),
                                       packed("one token", 2, 1, 1, 2),
                                       packed("with bias", 2, 2, 2, 1, {test_values({2, 2, 2}, 4)}),
                                       packed("two biases in turn", 4, 2, 1, 1, {test_values({2, 1, 2, 2}, 5)}),
                                       packed("no samples", 0, 2, 1, 2)};
          },
      .f32_tolerance = 2e-6,
      .errors =
          {{[] {
              self_attention(zeros({2, 3, 10}), 2);
            },
            "self_attention: qkv has shape (2, 3, 10) and there are 2 heads, expected (B, N, 3 H D)"},
           {[] {
              self_attention(zeros({2, 3, 12}), 2, zeros({3, 4}));
            },
            "self_attention: bias has shape (3, 4), expected one that broadcasts to (B, H, N, M) = (2, 2, 3, 3)"}},
      .benchmark = [] { return attention_benchmark(128, 65, 3, 64); }};
  return {general, fused};
}

}  // namespace vitrine
