// Hooks on ops: what they see and when, and how they find the op in which inf or NaN begins.
#include "autograd/op_hook.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "autograd/recompute.h"
#include "autograd/tape.h"
#include "ops/ops.h"
#include "tests/support/expectations.h"
#include "train/non_finite.h"

namespace vitrine {
namespace {

using Seen = std::vector<std::string>;

/// All that a hook sees of `work`: "mul" in forward, "mul<0" for the gradient of input 0 of mul.
Seen seen_in(const std::function<void()>& work) {
  Seen seen;
  const OpHook hook([&](const OpResult& r) {
    seen.push_back(r.is_gradient() ? fmt::format("{}<{}", r.op, r.input) : r.op);
    (void)mul(r.value, r.value);  // is not seen itself, nor is what follows
    Tape own;
    (void)exp(own.watch(r.value.detach()));
  });
  work();
  return seen;
}

TEST(OpHook, SeesForwardAndBackwardInTheirOrder) {
  const Tensor x = vector_of({1, 2}), factor = vector_of({3, 4});
  const Seen seen = seen_in([&] {
    Tape tape;
    const Tensor leaf = tape.watch(x);
    (void)tape.backward(sum(mul(exp(leaf), factor)));
    EXPECT_EQ(tape.size(), 4) << "what a hook computes is not recorded";
  });
  EXPECT_EQ(seen, (Seen{"exp", "mul", "sum", "sum<0", "mul<0", "exp<0"}));
}

TEST(OpHook, SeesNothingWithoutATapeNorAfterItsLife) {
  const Tensor x = vector_of({1, 2});
  EXPECT_EQ(seen_in([&] { exp(x); }), Seen{});
  Seen outer_seen;
  const OpHook outer([&](const OpResult& r) { outer_seen.emplace_back(r.op); });
  Tape tape;
  const Tensor leaf = tape.watch(x);
  EXPECT_EQ(seen_in([&] { exp(leaf); }), Seen{"exp"}) << "the innermost hook sees";
  EXPECT_EQ(outer_seen, Seen{});
  log(leaf);
  EXPECT_EQ(outer_seen, Seen{"log"});
}

TEST(OpHook, SeesWhatIsComputedAgain) {
  const Tensor x = vector_of({1, 2});
  const Seen seen = seen_in([&] {
    Tape tape;
    const Tensor leaf = tape.watch(x);
    (void)tape.backward(sum(recompute([](const Tensor& t, Generator*) { return exp(t); }, leaf, nullptr, {})));
  });
  EXPECT_EQ(seen, (Seen{"recompute", "sum", "sum<0", "exp", "exp<0", "recompute<0"}));
}

TEST(OpHook, MayThrow) {
  const Tensor x = vector_of({1, 2});
  Tape tape;
  const Tensor leaf = tape.watch(x);
  EXPECT_THROW(
      {
        const OpHook hook([](const OpResult& r) { throw Error(r.op); });
        exp(leaf);
      },
      Error);
  EXPECT_FALSE(OpHook::is_alive());
  EXPECT_EQ(Tape::current(), &tape);
}

// Kernels that add to a gradient in its place would hide their share.
TEST(OpHook, SeesTheGradientOfAResidualAndItsNorm) {
  const Tensor x = ones({2, 8}, DType::f32), one = ones({8}, DType::f32);
  const Seen seen = seen_in([&] {
    Tape tape;
    const Tensor leaf = tape.watch(x);
    const auto [total, y] = add_layer_norm(leaf, x, one, one);
    (void)tape.backward(sum(total * 2.0 + y));
  });
  EXPECT_EQ(std::ranges::count(seen, "layer_norm<0"), 1);
}

std::string first_in(const Tensor& x, const std::function<Tensor(const Tensor&)>& f) {
  return first_non_finite([&] {
    Tape tape;
    const Tensor y = f(tape.watch(x));
    (void)tape.backward(y, ones(y.shape(), y.dtype()));
  });
}

TEST(FirstNonFinite, IsNamedInForwardAndBackward) {
  const Tensor x = vector_of({0, 1, 2, 3});
  EXPECT_EQ(first_in(x, [](const Tensor& t) { return exp(t * 2.0); }), "");
  EXPECT_EQ(first_in(x, [](const Tensor& t) { return exp(log(t)); }), "log (4)") << "-inf comes before 0";
  EXPECT_EQ(first_in(x, [](const Tensor& t) { return sqrt(t) * 2.0; }), "the gradient of input 0 of sqrt (4)");
}

TEST(FirstNonFinite, InEveryFloatingType) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const Tensor x = cast(vector_of({0, 1}), dtype);
    EXPECT_EQ(first_in(x, [](const Tensor& t) { return log(t); }), "log (2)") << name_of(dtype);
    EXPECT_EQ(first_in(expand(x, {3, 2}), [](const Tensor& t) { return t + t; }), "") << name_of(dtype);
  }
}

}  // namespace
}  // namespace vitrine
