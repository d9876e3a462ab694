// Ops and their gradients against PyTorch in float64 (tests/golden/README.md tells how the file was
// made).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "ops/ops.h"
#include "tests/support/golden_cases.h"

namespace vitrine {
namespace {

using Json = nlohmann::json;
using Tensors = std::vector<Tensor>;

/// One case of the file: the tensors that the op takes, and PyTorch's options.
struct Golden {
  Tensors x;              // floating inputs, in order
  OptionalTensor index;   // i64
  OptionalTensor target;  // soft targets
  Json options;

  Dims dims(const char* key) const { return Dims(options.at(key).get<std::vector<std::int64_t>>()); }
  int dim() const { return options.at("dim").get<int>(); }
  /// The input of that number, where there is one.
  OptionalTensor bias(std::size_t i) const { return x.size() > i ? OptionalTensor(x[i]) : std::nullopt; }
  bool keepdim() const { return options.at("keepdim").get<bool>(); }
};

using Op = std::function<Tensor(const Golden&)>;

Op unary(Tensor (*op)(const Tensor&)) {
  return [op](const Golden& g) { return op(g.x[0]); };
}
Op binary(Tensor (*op)(const Tensor&, const Tensor&)) {
  return [op](const Golden& g) { return op(g.x[0], g.x[1]); };
}
Op reduction(Tensor (*op)(const Tensor&, const Dims&, bool)) {
  return [op](const Golden& g) { return op(g.x[0], g.dims("dim"), g.keepdim()); };
}

/// PyTorch lists padding from the last dim backwards: before, after, before, after, ...
Tensor pad_as_pytorch(const Golden& g) {
  const Dims pairs = g.dims("pad");
  Dims before = Dims::filled(g.x[0].dim(), 0), after = before;
  for (int i = 0; 2 * i < pairs.size(); ++i) {
    before[g.x[0].dim() - 1 - i] = pairs[2 * i];
    after[g.x[0].dim() - 1 - i] = pairs[2 * i + 1];
  }
  return pad(g.x[0], before, after, g.options.value("value", 0.0));
}

/// Soft targets that PyTorch smooths by itself are smoothed here.
Tensor cross_entropy_as_pytorch(const Golden& g) {
  const double smoothing = g.options.value("label_smoothing", 0.0);
  if (g.index) return cross_entropy(g.x[0], *g.index, smoothing);
  const auto classes = static_cast<double>(g.x[0].size(1));
  return soft_cross_entropy(g.x[0], *g.target * (1 - smoothing) + smoothing / classes);
}

const std::map<std::string, Op>& ops_by_name() {
  static const std::map<std::string, Op> ops{
      {"abs", unary(abs)},
      {"cos", unary(cos)},
      {"erf", unary(erf)},
      {"exp", unary(exp)},
      {"log", unary(log)},
      {"neg", unary(neg)},
      {"expm1", unary(expm1)},
      {"log1p", unary(log1p)},
      {"sign", unary(sign)},
      {"floor", unary(floor)},
      {"ceil", unary(ceil)},
      {"reciprocal", unary(reciprocal)},
      {"relu", unary(relu)},
      {"rsqrt", unary(rsqrt)},
      {"sigmoid", unary(sigmoid)},
      {"silu", unary(silu)},
      {"sin", unary(sin)},
      {"softplus", unary(softplus)},
      {"sqrt", unary(sqrt)},
      {"square", unary(square)},
      {"tanh", unary(tanh)},
      {"gelu", [](const Golden& g) { return gelu(g.x[0]); }},
      {"gelu_tanh", [](const Golden& g) { return gelu(g.x[0], GeluForm::tanh); }},
      {"add", binary(add)},
      {"sub", binary(sub)},
      {"mul", binary(mul)},
      {"div", binary(div)},
      {"maximum", binary(maximum)},
      {"minimum", binary(minimum)},
      {"matmul", binary(matmul)},
      {"pow",
       [](const Golden& g) {
         return g.x.size() > 1 ? pow(g.x[0], g.x[1]) : pow(g.x[0], g.options.at("exponent").get<double>());
       }},
      {"sum", reduction(sum)},
      {"mean", reduction(mean)},
      {"max", reduction(amax)},
      {"min", reduction(amin)},
      {"logsumexp", reduction(logsumexp)},
      {"var",
       [](const Golden& g) { return var(g.x[0], g.dims("dim"), g.keepdim(), g.options.at("correction").get<int>()); }},
      {"softmax", [](const Golden& g) { return softmax(g.x[0], g.dim()); }},
      {"log_softmax", [](const Golden& g) { return log_softmax(g.x[0], g.dim()); }},
      {"layer_norm",
       [](const Golden& g) { return layer_norm(g.x[0], g.x[1], g.x[2], g.options.at("eps").get<double>()); }},
      {"linear", [](const Golden& g) { return linear(g.x[0], g.x[1], g.bias(2)); }},
      {"attention",
       [](const Golden& g) {
         const auto scale = g.options.contains("scale") ? std::optional<double>(g.options.at("scale")) : std::nullopt;
         return attention(g.x[0], g.x[1], g.x[2], g.bias(3), scale);
       }},
      {"self_attention", [](const Golden& g) { return self_attention(g.x[0], g.options.at("heads"), g.bias(1)); }},
      {"cross_entropy", cross_entropy_as_pytorch},
      {"binary_cross_entropy", [](const Golden& g) { return binary_cross_entropy(g.x[0], *g.target); }},
      {"bias_gelu", [](const Golden& g) { return bias_gelu(g.x[0], g.x[1]); }},
      {"add_layer_norm",
       [](const Golden& g) {
         const auto [sum, norm] = add_layer_norm(g.x[0], g.x[1], g.x[2], g.x[3], g.options.at("eps").get<double>());
         return stack({sum, norm}, 0);
       }},
      {"concat", [](const Golden& g) { return concat(g.x, g.dim()); }},
      {"stack", [](const Golden& g) { return stack(g.x, g.dim()); }},
      {"expand", [](const Golden& g) { return expand(g.x[0], g.dims("size")); }},
      {"permute", [](const Golden& g) { return permute(g.x[0], g.dims("dims")); }},
      {"flip", [](const Golden& g) { return flip(g.x[0], g.dims("dims")); }},
      {"roll", [](const Golden& g) { return roll(g.x[0], g.dims("shifts"), g.dims("dims")); }},
      {"pad", pad_as_pytorch},
      {"slice",
       [](const Golden& g) {
         return slice(g.x[0], 2, g.options.at("start"), g.options.at("stop"), g.options.at("step"));
       }},
      {"clamp",
       [](const Golden& g) {
         return clamp(g.x[0], g.options.at("min").get<double>(), g.options.at("max").get<double>());
       }},
      {"where", [](const Golden& g) { return where(cast(*g.index, DType::boolean), g.x[0], g.x[1]); }},
      {"transpose", [](const Golden& g) { return transpose(g.x[0], g.options.at("dim0"), g.options.at("dim1")); }},
      {"reshape", [](const Golden& g) { return reshape(g.x[0], Shape(g.dims("shape"))); }},
      {"flatten", [](const Golden& g) { return flatten(g.x[0], g.options.at("start_dim")); }},
      {"unsqueeze", [](const Golden& g) { return unsqueeze(g.x[0], g.dim()); }},
      {"squeeze", [](const Golden& g) { return squeeze(g.x[0], g.dim()); }},
      {"select", [](const Golden& g) { return select(g.x[0], g.dim(), g.options.at("at")); }},
      {"split", [](const Golden& g) { return split(g.x[0], g.options.at("size"), g.dim())[1]; }},
      {"window_partition", [](const Golden& g) { return window_partition(g.x[0], g.options.at("w")); }},
      {"embedding", [](const Golden& g) { return embedding(g.x[0], *g.index); }},
      {"gather", [](const Golden& g) { return gather(g.x[0], g.dim(), *g.index); }},
      {"index_select", [](const Golden& g) { return index_select(g.x[0], g.dim(), *g.index); }},
  };
  return ops;
}

TEST(GoldenOps, AComparisonWithNanOrAnotherShapeFails) {
  const Tensor expected = vector_of({1, 2, 3});
  EXPECT_TRUE(std::isinf(relative_error(vector_of({NAN, 2, 3}), expected)));
  EXPECT_TRUE(std::isinf(relative_error(vector_of({1, 2}), expected)));
  EXPECT_TRUE(std::isinf(relative_error(Tensor(), expected)));
  EXPECT_EQ(relative_error(vector_of({1, 2, 6}), expected), 1);
}

TEST(GoldenOps, ValuesAndGradientsEqualPyTorch) {
  const auto check = [](const SafetensorsReader& file, const std::string& name, const Op& op,
                        const std::string& options) {
    Tape tape;
    Golden golden{.x = golden_inputs(file, name, tape), .index = {}, .target = {}, .options = Json::parse(options)};
    if (file.contains(name + ".i0")) golden.index = file.read(name + ".i0");
    if (file.contains(name + ".target")) golden.target = file.read(name + ".target");
    expect_golden(file, name, tape, golden.x, op(golden), 1e-10);
  };
  for_each_golden_case({"ops.safetensors", "more_ops.safetensors"}, ops_by_name(), check);
}

}  // namespace
}  // namespace vitrine
