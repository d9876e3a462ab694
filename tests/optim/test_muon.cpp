// Muon: its Newton-Schulz iteration against a plain one, singular values, which parameters it
// takes, and its memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "models/registry.h"
#include "optim/muon.h"
#include "optim/optimizer_table.h"
#include "tests/optim/optimizer_steps.h"
#include "tests/support/expectations.h"
#include "train/recipe/setup.h"

namespace vitrine {
namespace {

using Matrix = std::vector<std::vector<double>>;

Matrix matrix_of(const Tensor& x) {
  const auto values = cast_data(x, DType::f64).to_vector<double>();
  Matrix m(static_cast<std::size_t>(x.size(0)), std::vector<double>(static_cast<std::size_t>(x.size(1))));
  for (std::size_t i = 0; i < m.size(); ++i) {
    for (std::size_t j = 0; j < m[i].size(); ++j) m[i][j] = values[i * m[i].size() + j];
  }
  return m;
}

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix y(a.size(), std::vector<double>(b[0].size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < b[0].size(); ++j) {
      for (std::size_t k = 0; k < b.size(); ++k) y[i][j] += a[i][k] * b[k][j];
    }
  }
  return y;
}

Matrix transposed(const Matrix& a) {
  Matrix y(a[0].size(), std::vector<double>(a.size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a[0].size(); ++j) y[j][i] = a[i][j];
  }
  return y;
}

/// The iteration as Jordan writes it, in double, without regard to which side is longer.
Matrix plain_orthogonalize(Matrix x, int steps) {
  double squares = 0;
  for (const auto& row : x) {
    for (const double v : row) squares += v * v;
  }
  for (auto& row : x) {
    for (double& v : row) v /= std::sqrt(squares);
  }
  for (int step = 0; step < steps; ++step) {
    const Matrix gram = product(x, transposed(x)), gram_x = product(gram, x), gram_gram_x = product(gram, gram_x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (std::size_t j = 0; j < x[0].size(); ++j) {
        x[i][j] = 3.4445 * x[i][j] - 4.7750 * gram_x[i][j] + 2.0315 * gram_gram_x[i][j];
      }
    }
  }
  return x;
}

/// Singular values of x (m, n), m <= n: the roots of the eigenvalues of x x^T, by Jacobi's
/// rotations.
std::vector<double> singular_values(const Matrix& x) {
  Matrix a = product(x, transposed(x));
  const std::size_t n = a.size();
  for (int sweep = 0; sweep < 30; ++sweep) {
    for (std::size_t p = 0; p < n; ++p) {
      for (std::size_t q = p + 1; q < n; ++q) {
        const double angle = 0.5 * std::atan2(2 * a[p][q], a[q][q] - a[p][p]), c = std::cos(angle), s = std::sin(angle);
        for (std::size_t k = 0; k < n; ++k) {
          const double kp = a[k][p], kq = a[k][q];
          a[k][p] = c * kp - s * kq, a[k][q] = s * kp + c * kq;
        }
        for (std::size_t k = 0; k < n; ++k) {
          const double pk = a[p][k], qk = a[q][k];
          a[p][k] = c * pk - s * qk, a[q][k] = s * pk + c * qk;
        }
      }
    }
  }
  std::vector<double> values;
  for (std::size_t i = 0; i < n; ++i) values.push_back(std::sqrt(std::max(0.0, a[i][i])));
  return values;
}

TEST(Muon, OrthogonalizesAsAPlainLoopDoes) {
  for (const Shape& shape : {Shape{5, 9}, Shape{9, 5}, Shape{6, 6}}) {
    const Tensor x = random_tensor(shape, 1);
    for (const int steps : {1, 3, 5}) {
      const Matrix expected = plain_orthogonalize(matrix_of(x), steps), got = matrix_of(orthogonalize(x, steps));
      for (std::size_t i = 0; i < expected.size(); ++i) {
        for (std::size_t j = 0; j < expected[0].size(); ++j) {
          EXPECT_TRUE(std::abs(got[i][j] - expected[i][j]) <= 1e-12) << to_string(shape) << steps;
        }
      }
    }
  }
}

/// Whatever the singular values of x, from 1 down to 1/50 of the largest, those of the result are
/// near 1: within the interval that the coefficients were chosen for, 0.7 to 1.2, and what bf16
/// adds.
TEST(Muon, MakesSingularValuesNearOne) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    for (const Shape& shape : {Shape{12, 40}, Shape{40, 12}}) {
      Tensor x = random_tensor(shape, 2, dtype);
      Tensor scales = full({12}, 1, dtype);
      for (std::int64_t i = 0; i < 12; ++i) {
        Tensor one = slice(scales, 0, i, i + 1);
        fill(one, std::pow(50.0, -static_cast<double>(i) / 11));
      }
      x = shape[0] == 12 ? x * reshape(scales, {12, 1}) : x * scales;
      const Tensor y = orthogonalize(x * 1e-3);
      EXPECT_EQ(y.dtype(), dtype);
      EXPECT_EQ(y.shape(), shape);
      for (const double s : singular_values(matrix_of(shape[0] == 12 ? y : transpose(y)))) {
        EXPECT_TRUE(s >= 0.65 && s <= 1.25) << s;
      }
    }
  }
}

TEST(Muon, TakesAMatrixOfZeros) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const Tensor y = cast_data(orthogonalize(zeros({4, 6}, dtype)), DType::f64);
    EXPECT_EQ(y.to_vector<double>(), std::vector<double>(24, 0));
  }
}

/// Names with `prefix` in the optimiser's state.
std::set<std::string> names_with(const Optimizer& optimizer, const std::string& prefix) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : optimizer.state().tensors) {
    if (name.starts_with(prefix + ".")) names.insert(name.substr(prefix.size() + 1));
  }
  return names;
}

TEST(Muon, TakesMatricesByTheirShape) {
  const std::pair<Shape, bool> cases[] = {
      {{8, 8}, true},       {{8}, false},           {{3, 8}, false},         {{8, 3}, false},
      {{4, 512}, true},     {{4, 516}, false},      {{1, 9, 8}, false},      {{8, 1, 3, 3}, false},
      {{8, 3, 2, 2}, true}, {{4, 2, 16, 16}, true}, {{4, 3, 16, 16}, false}, {{8, 8, 1, 1}, true},
  };
  for (const auto& [shape, by_muon] : cases) {
    Parameter p(random_tensor(shape, 1));
    const Muon optimizer({{.parameters = {{"p", &p}}}});
    EXPECT_EQ(names_with(optimizer, "momentum").size(), by_muon ? 1u : 0u) << to_string(shape);
    EXPECT_EQ(names_with(optimizer, "first_moment").size(), by_muon ? 0u : 1u) << to_string(shape);
    EXPECT_EQ(names_with(optimizer, "second_moment").size(), by_muon ? 0u : 1u) << to_string(shape);
  }
}

TEST(Muon, LeavesTheFallbackListToAdamW) {
  const Tensor start = random_tensor({8, 8}, 1);
  Parameter p(clone(start)), q(clone(start));
  Muon muon({{.parameters = {{"p", &p}}, .weight_decay = 0.1}}, {.fallback_list = {"p"}});
  AdamW adamw({{.parameters = {{"p", &q}}, .weight_decay = 0.1}}, {.learning_rate = 1e-3, .beta2 = 0.95});
  for (std::uint64_t t = 0; t < 3; ++t) {
    step_with(muon, {{&p, random_tensor({8, 8}, 10 + t)}});
    step_with(adamw, {{&q, random_tensor({8, 8}, 10 + t)}});
  }
  EXPECT_EQ(p.value().to_vector<double>(), q.value().to_vector<double>());
}

TEST(Muon, MistakesAreErrors) {
  EXPECT_EQ(error_of([] {
              orthogonalize(ones({2, 3, 4}));
            }),
            "orthogonalize: x is f32 (2, 3, 4), expected f32 or f64 (m, n)");
  Parameter p(ones({8, 8})), nothing;
  const auto message = [&](Parameter* parameter, const MuonOptions& options) {
    return error_of([&] { Muon({{.parameters = {{"p", parameter}}}}, options); });
  };
  EXPECT_EQ(message(&p, {.momentum = 1}), "muon: momentum is 1, expected [0, 1)");
  EXPECT_EQ(message(&p, {.ns_steps = 0}), "muon: ns_steps is 0, expected 1 or more");
  EXPECT_EQ(message(&p, {.beta2 = 1}), "muon: betas are 0.9 and 1, expected both in [0, 1)");
  EXPECT_EQ(message(&p, {.epsilon = -1}), "muon: epsilon is -1, expected 0 or more");
  EXPECT_EQ(message(&nothing, {}), "muon: parameter p has no value");
}

// ---- By a recipe ----

/// The matrices of the blocks, and no other: not the head, the patches, or tables of positions.
TEST(Muon, OfARecipeTakesTheMatricesOfTheBlocks) {
  Recipe recipe;
  recipe.opt = "muon";
  const Model vit = create_model("vit_tiny_patch16_224", {.num_classes = 10, .img_size = 32, .depth = 2});
  std::set<std::string> expected;
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    for (const std::string layer : {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}) {
      expected.insert(block + layer + ".weight");
    }
  }
  EXPECT_EQ(names_with(*make_optimizer(recipe, vit), "momentum"), expected);

  const Model swin = create_model(
      "swin_tiny_patch4_window7_224",
      {.num_classes = 10, .embed_dim = 32, .depths = PerStage({1, 1, 2, 1}), .num_heads = PerStage({1, 2, 4, 8})});
  std::size_t matrices = 0;
  for (const std::string& name : names_with(*make_optimizer(recipe, swin), "momentum")) {
    EXPECT_TRUE(name.starts_with("layers.") && name.ends_with(".weight")) << name;
    ++matrices;
  }
  EXPECT_EQ(matrices, 5u * 4 + 3) << "three layers merge patches";
}

TEST(OptimizerTable, TheFlagTakesItsNames) {
  Recipe recipe;
  std::string names;
  for (const OptimizerRow& row : optimizer_table()) {
    set_field(recipe, "opt", {row.name}, "--opt");
    EXPECT_EQ(recipe.opt, row.name);
    names += (names.empty() ? "" : ", ") + row.name;
  }
  EXPECT_EQ(error_of([&] { set_field(recipe, "opt", {"ftrl"}, "--opt"); }),
            "--opt: 'ftrl' is not accepted, expected one of " + names);
}

/// Each optimiser has its own betas and momentum unless the recipe gives them.
TEST(OptimizerTable, ARecipeLeavesWhatItDoesNotGive) {
  const auto first_momentum = [](Recipe recipe, const std::string& name) {
    recipe.opt = name;
    const Model model = create_model("vit_tiny_patch16_224", {.num_classes = 10, .img_size = 32, .depth = 1});
    const auto optimizer = make_optimizer(recipe, model);
    std::vector<std::pair<Parameter*, Tensor>> gradients;
    for (const NamedParameter& p : model.parameters()) gradients.emplace_back(p.parameter, ones(p.parameter->shape()));
    step_with(*optimizer, gradients);
    for (const auto& [key, tensor] : optimizer->state().tensors) {
      if (key == "momentum.blocks.0.mlp.fc1.weight") return static_cast<double>(tensor.to_vector<float>()[0]);
    }
    return std::nan("");
  };
  EXPECT_NEAR(first_momentum({}, "lion"), 0.01, 1e-8);  // 1 - beta2
  EXPECT_NEAR(first_momentum({}, "muon"), 0.05, 1e-8);  // 1 - momentum
  Recipe recipe;
  recipe.opt_betas = {0.9, 0.9};
  recipe.momentum = 0.8;
  EXPECT_NEAR(first_momentum(recipe, "lion"), 0.1, 1e-7);
  EXPECT_NEAR(first_momentum(recipe, "muon"), 0.2, 1e-7);
}

}  // namespace
}  // namespace vitrine
