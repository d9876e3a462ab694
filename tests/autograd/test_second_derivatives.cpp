// Derivatives of gradients through nested tapes, against values worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "ops/ops.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

using Function = std::function<Tensor(const Tensor&)>;

/// The gradient of sum(f(x) weights), as a function that an outer tape records.
Tensor gradient_of(const Function& f, const Tensor& x) {
  Tape inner;
  const Tensor leaf = inner.watch(x);
  const Tensor y = f(leaf);
  return inner.backward(y, ones(y.shape(), y.dtype()))[leaf];
}

/// The diagonal of the second derivative of an elementwise f.
Tensor second_derivative(const Function& f, const Tensor& x) {
  return gradient_of([&](const Tensor& leaf) { return gradient_of(f, leaf); }, x);
}

TEST(SecondDerivatives, OfElementwiseOps) {
  const Values points = {0.3, 0.9, 1.7};
  struct Case {
    const char* name;
    Function f;
    std::function<double(double)> expected;
  };
  const auto sigma = [](double x) { return 1 / (1 + std::exp(-x)); };
  const std::vector<Case> cases = {
      {"x^3", [](const Tensor& x) { return mul(x, mul(x, x)); }, [](double x) { return 6 * x; }},
      {"pow", [](const Tensor& x) { return pow(x, 2.5); }, [](double x) { return 3.75 * std::sqrt(x); }},
      {"exp", [](const Tensor& x) { return exp(x); }, [](double x) { return std::exp(x); }},
      {"log", [](const Tensor& x) { return log(x); }, [](double x) { return -1 / (x * x); }},
      {"sin", [](const Tensor& x) { return sin(x); }, [](double x) { return -std::sin(x); }},
      {"tanh", [](const Tensor& x) { return tanh(x); },
       [](double x) { return -2 * std::tanh(x) / (std::cosh(x) * std::cosh(x)); }},
      {"sigmoid", [](const Tensor& x) { return sigmoid(x); },
       [&](double x) { return sigma(x) * (1 - sigma(x)) * (1 - 2 * sigma(x)); }},
      {"1/x", [](const Tensor& x) { return div(ones({3}, DType::f64), x); }, [](double x) { return 2 / (x * x * x); }},
      {"sqrt", [](const Tensor& x) { return sqrt(x); }, [](double x) { return -0.25 * std::pow(x, -1.5); }},
      {"gelu", [](const Tensor& x) { return gelu(x); },
       [](double x) { return (2 - x * x) * std::exp(-x * x / 2) / std::sqrt(2 * M_PI); }}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Values expected;
    for (const double x : points) expected.push_back(c.expected(x));
    expect_near(second_derivative(c.f, vector_of(points)), expected, 1e-11);
  }
}

TEST(SecondDerivatives, PassThroughTheAdjointsOfMovingOps) {
  // f(x) = move(x)^3: the second derivative of the sum is 6 x n, n being how often the op takes the
  // element.
  const auto cube = [](const Tensor& x) { return mul(x, mul(x, x)); };
  const Tensor index = from_values<std::int64_t>({3, 1, 3}, {3});
  struct Case {
    const char* name;
    Function move;
    Values taken;
  };
  const std::vector<Case> cases = {
      {"slice", [](const Tensor& x) { return slice(x, 0, 1, 4, 2); }, {0, 1, 0, 1}},
      {"select", [](const Tensor& x) { return select(x, 0, 2); }, {0, 0, 1, 0}},
      {"gather", [&](const Tensor& x) { return gather(x, 0, index); }, {0, 1, 0, 2}},
      {"index_select", [&](const Tensor& x) { return index_select(x, 0, index); }, {0, 1, 0, 2}},
      {"embedding",
       [&](const Tensor& x) {
         return embedding(reshape(x, {4, 1}), index);
       },
       {0, 1, 0, 2}},
      {"expand",
       [](const Tensor& x) {
         return expand(x, {3, 4});
       },
       {3, 3, 3, 3}},
      {"concat",
       [](const Tensor& x) {
         return concat({x, slice(x, 0, 0, 1)}, 0);
       },
       {2, 1, 1, 1}},
      {"pad", [](const Tensor& x) { return pad(x, {1}, {2}, 5); }, {1, 1, 1, 1}},
      {"roll", [](const Tensor& x) { return slice(roll(x, {1}, {0}), 0, 0, 2); }, {1, 0, 0, 1}},
      {"flip", [](const Tensor& x) { return slice(flip(x, {0}), 0, 0, 1); }, {0, 0, 0, 1}},
      {"transpose",
       [](const Tensor& x) {
         return contiguous(transpose(reshape(x, {2, 2})));
       },
       {1, 1, 1, 1}}};
  const Values points = {0.5, -1, 2, 1.5};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Values expected;
    for (std::size_t i = 0; i < points.size(); ++i) expected.push_back(6 * points[i] * c.taken[i]);
    expect_near(second_derivative([&](const Tensor& x) { return cube(c.move(x)); }, vector_of(points)), expected);
  }
}

TEST(SecondDerivatives, OfAQuadraticFormIsItsSymmetricPart) {
  const Tensor a = from_values<double>({1, 2, -3, 4}, {2, 2}), direction = vector_of({1, -2});
  Tape outer;
  const Tensor x = outer.watch(vector_of({0.5, 2}));
  const Tensor gradient = gradient_of(
      [&](const Tensor& leaf) {
        return matmul(reshape(leaf, {1, 2}), matmul(a, reshape(leaf, {2, 1})));
      },
      x);
  expect_near(gradient, {2 * 0.5 - 1 * 2, -1 * 0.5 + 8 * 2});                        // (A + A^T) x
  expect_near(outer.backward(gradient, direction)[x], {2 * 1 + -1 * -2, -1 + -16});  // (A + A^T) direction
}

TEST(SecondDerivatives, OfLogsumexpAreTheCovarianceOfSoftmax) {
  const Values points = {0.1, 1.2, -0.4}, v = {1, -0.5, 2};
  Tape outer;
  const Tensor x = outer.watch(vector_of(points));
  const Tensor gradient = gradient_of([](const Tensor& leaf) { return logsumexp(leaf); }, x);
  double total = 0, mean = 0;
  Values p, expected;
  for (const double point : points) total += std::exp(point);
  for (const double point : points) p.push_back(std::exp(point) / total);
  for (std::size_t i = 0; i < 3; ++i) mean += p[i] * v[i];
  for (std::size_t i = 0; i < 3; ++i) expected.push_back(p[i] * (v[i] - mean));
  expect_near(gradient, p);
  expect_near(outer.backward(gradient, vector_of(v))[x], expected);
}

TEST(SecondDerivatives, MixWithWhatTheOuterTapeSeesBesides) {
  Tape outer;
  const Tensor x = outer.watch(vector_of({2})), w = outer.watch(vector_of({3}));
  const Tensor gradient = gradient_of([&](const Tensor& leaf) { return mul(w, mul(leaf, leaf)); }, x);  // 2 w x
  const Gradients grads = outer.backward(mul(gradient, x));                                             // 2 w x^2
  expect_near(grads[x], {24});
  expect_near(grads[w], {8});
}

TEST(SecondDerivatives, OfTheGradientNormOfAParameter) {
  Parameter weight(vector_of({1, 2}));
  Tape outer;
  const Tensor before = weight;
  Tensor gradient;
  {
    Tape inner;
    const Tensor leaf = inner.watch(before);
    gradient = inner.backward(sum(mul(leaf, mul(leaf, leaf))))[leaf];  // 3 w^2
  }
  expect_near(outer.backward(sum(mul(gradient, gradient)))[weight], {36, 36 * 8});  // d 9 w^4
}

TEST(ThirdDerivatives, NestOnceMore) {
  const Function third = [](const Tensor& x) {
    return gradient_of(
        [](const Tensor& leaf) { return second_derivative([](const Tensor& t) { return sin(t); }, leaf); }, x);
  };
  expect_near(third(vector_of({0.4, 2})), {-std::cos(0.4), -std::cos(2.0)});
}

}  // namespace
}  // namespace vitrine
