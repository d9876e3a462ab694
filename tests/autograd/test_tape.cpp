// The tape: what is recorded, how gradients accumulate, what is an error, and very deep graphs.
#include "autograd/tape.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <limits>
#include <thread>

#include "op_table/op_table.h"
#include "ops/ops.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

// ---- What is recorded ----

TEST(Tape, RecordsOnlyWhatDependsOnALeafWhileItIsAlive) {
  const Tensor x = vector_of({1, 2});
  EXPECT_EQ(Tape::current(), nullptr);
  EXPECT_EQ(mul(x, x).trace().node, -1);
  {
    Tape tape;
    EXPECT_EQ(Tape::current(), &tape);
    EXPECT_FALSE(tape.tracks(mul(x, x)));
    EXPECT_EQ(tape.size(), 0);
    const Tensor leaf = tape.watch(x);
    EXPECT_TRUE(tape.tracks(mul(leaf, x)));
    EXPECT_FALSE(tape.tracks(mul(leaf, x).detach()));
    EXPECT_EQ(tape.size(), 3);
    {
      const PauseRecording pause;
      EXPECT_FALSE(tape.tracks(mul(leaf, x)));
    }
    EXPECT_EQ(Tape::current(), &tape);
    std::thread([] { EXPECT_EQ(Tape::current(), nullptr) << "a tape belongs to its thread"; }).join();
  }
  EXPECT_EQ(Tape::current(), nullptr);
}

TEST(Tape, ForgetsTracesOfAnEarlierTape) {
  Parameter weight(vector_of({3}));
  Tensor stale;
  for (int step = 0; step < 2; ++step) {
    Tape tape;
    const Tensor y = mul(weight, weight);
    if (step == 1) {
      EXPECT_FALSE(tape.tracks(stale));
    }
    expect_near(tape.backward(y)[weight], {6});
    stale = y;
  }
}

TEST(Tape, AParameterIsOneLeafHoweverOftenItIsUsed) {
  Parameter weight(vector_of({2, 3}));
  Tape tape;
  const Tensor a = weight, b = weight;
  EXPECT_EQ(tape.size(), 1);
  EXPECT_EQ(a.trace().node, b.trace().node);
}

TEST(Tape, GivesNoGradientWhereTheLossDoesNotDepend) {
  Parameter used(vector_of({2})), beside(vector_of({5})), never(vector_of({7}));
  Tape tape;
  const Tensor aside = mul(beside, beside);
  const Gradients grads = tape.backward(mul(used, 3));
  expect_near(grads[used], {3});
  EXPECT_FALSE(grads[beside].defined());
  EXPECT_FALSE(grads[never].defined());
  EXPECT_TRUE(tape.tracks(aside));
}

TEST(Tape, DrawsTheGraph) {
  Tape tape;
  const Tensor x = tape.watch(zeros({2, 3}));
  (void)sum(mul(x, x));
  const std::string dot = tape.to_dot();
  for (const std::string part :
       {"digraph", "leaf\\nf32 (2, 3)", "mul\\nf32 (2, 3)", "sum\\nf32 ()", "n0 -> n1", "n1 -> n2"}) {
    EXPECT_TRUE(contains(dot, part)) << "no " << part << " in\n" << dot;
  }
}

// ---- Accumulation ----

TEST(Accumulation, OfTheSameTensorTwice) {
  Tape tape;
  const Tensor x = tape.watch(vector_of({2, -3})), a = tape.watch(from_values<double>({1, 2, 3, 4}, {2, 2}));
  const Tensor loss = sum(mul(x, x)) + sum(add(x, x)) + sum(matmul(a, a));
  const Gradients grads = tape.backward(loss);
  expect_near(grads[x], {6, -4});
  // d sum(A A) / dA = 1 A^T + A^T 1, with 1 the matrix of ones
  expect_near(grads[a], {3 + 4, 7 + 4, 3 + 6, 7 + 6});
}

TEST(Accumulation, OfDiamonds) {
  Tape tape;
  const Tensor x = tape.watch(vector_of({2, 3}));
  const Tensor square = mul(x, x);
  const Tensor y = mul(square, add(square, x));     // x^4 + x^3
  const Tensor loss = sum(add(y, mul(square, 5)));  // + 5 x^2
  expect_near(tape.backward(loss)[x], {4 * 8 + 3 * 4 + 10 * 2, 4 * 27 + 3 * 9 + 10 * 3});
}

TEST(Accumulation, OwnsItsBuffer) {
  // add hands one and the same dy to both inputs. Whatever is added to a's gradient before or after
  // that must not reach b's gradient, nor the dy that came from outside.
  for (const bool product_first : {false, true}) {
    Tape tape;
    const Tensor a = tape.watch(vector_of({1, 2})), b = tape.watch(vector_of({3, 4}));
    const Tensor c = vector_of({10, 20});
    Tensor product = product_first ? mul(a, c) : Tensor();
    const Tensor both = add(a, b);
    if (!product_first) product = mul(a, c);
    const Tensor y = add(add(both, product), add(a, a));
    const Tensor dy = vector_of({1, -1});
    const Gradients grads = tape.backward(y, dy);
    expect_near(grads[a], {13, -23});
    expect_near(grads[b], {1, -1});
    expect_near(dy, {1, -1});
  }
}

TEST(Accumulation, OfOutputGradientsWithAnyStrides) {
  const Tensor a = test_values({3, 4}, 1), b = test_values({3, 4}, 2);
  const auto gradients = [&](const Tensor& dy) {
    Tape tape;
    const Tensor x = tape.watch(a), z = tape.watch(b);
    const Tensor y = add(mul(x, z), softmax(x));
    const Gradients grads = tape.backward(y, dy);
    return concat({grads[x], grads[z]}, 0);
  };
  const Tensor one = full({}, 0.5, DType::f64), wide = test_values({3, 9}, 3), tall = test_values({4, 3}, 4);
  const std::vector<std::pair<const char*, Tensor>> layouts = {{"stride 0", expand(one, {3, 4})},
                                                               {"expanded rows", expand(slice(wide, 1, 0, 1), {3, 4})},
                                                               {"sliced", slice(wide, 1, 1, 8, 2)},
                                                               {"transposed", transpose(tall)}};
  for (const auto& [name, dy] : layouts) {
    SCOPED_TRACE(name);
    const Values before = dy.to_vector<double>();
    expect_near(gradients(dy), gradients(clone(dy)).to_vector<double>(), 1e-15);
    expect_near(dy, before, 0);
  }
}

TEST(Accumulation, OfWhereDoesNotLeakNaNFromTheBranchNotTaken) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  Tape tape;
  const Tensor a = tape.watch(vector_of({1, nan, 3, infinity})), b = tape.watch(vector_of({nan, 5, infinity, 7}));
  const Tensor condition = less(vector_of({0, 1, 0, 1}), vector_of({0.5, 0.5, 0.5, 0.5}));
  const Tensor y = where(condition, a, b);
  expect_near(y, {1, 5, 3, 7});
  const Gradients grads = tape.backward(y, vector_of({2, 3, 4, 5}));
  expect_near(grads[a], {2, 0, 4, 0}, 0);
  expect_near(grads[b], {0, 3, 0, 5}, 0);
}

// ---- Errors ----

TEST(TapeErrors, NameWhatIsWrong) {
  Tape tape;
  const Tensor x = tape.watch(zeros({2, 3}));
  EXPECT_TRUE(
      contains(error_of([&] { tape.backward(x); }), "backward: the loss has shape (2, 3), expected one element"));
  EXPECT_TRUE(
      contains(error_of([&] { tape.backward(zeros({})); }), "backward: the output was not recorded on this tape"));
  EXPECT_TRUE(contains(error_of([&] {
                         tape.backward(x, zeros({3, 2}));
                       }),
                       "backward: dy is f32 (3, 2), expected f32 (2, 3)"));
  EXPECT_TRUE(contains(error_of([&] { tape.backward(x, zeros({2, 3}, DType::f64)); }), "backward: dy is f64"));
}

TEST(TapeErrors, BackwardTwiceNeedsRetain) {
  Tape tape;
  const Tensor x = tape.watch(vector_of({3}));
  const Tensor square = mul(x, x), cube = mul(square, x);
  expect_near(tape.backward(cube, {.retain = true})[x], {27});
  expect_near(tape.backward(square, {.retain = true})[x], {6});  // from another output
  expect_near(tape.backward(cube)[x], {27});
  EXPECT_TRUE(contains(error_of([&] { tape.backward(cube); }), "backward: this tape has run backward already"));
}

TEST(TapeErrors, ASavedTensorChangedInPlaceNamesTheOp) {
  for (const bool change_output : {false, true}) {
    Tape tape;
    Tensor x = vector_of({1, 2});
    const Tensor leaf = tape.watch(x);
    Tensor y = change_output ? exp(leaf) : log(leaf);  // exp keeps its output, log its input
    const Tensor loss = sum(y);
    fill(change_output ? y : x, 4);
    const std::string message = error_of([&] { tape.backward(loss); });
    EXPECT_TRUE(message.starts_with(change_output ? "exp: " : "log: ") && contains(message, "in place")) << message;
  }
}

TEST(TapeErrors, AGradientOfTheWrongShapeNamesTheOp) {
  Tape tape;
  const Tensor x = tape.watch(zeros({2, 3}));
  const Tensor y =
      record("broken", zeros({2}), {x}, [](const Tensor& dy, BackwardContext& context) { context.add(0, dy); });
  const std::string message = error_of([&] { tape.backward(sum(y)); });
  EXPECT_TRUE(contains(message, "broken: the gradient of input 0 is f32 (2), expected f32 (2, 3)")) << message;
}

TEST(TapeErrors, AnExceptionInTheMiddleOfBackwardLeavesEverythingUsable) {
  bool is_broken = true;
  Parameter weight(vector_of({2}));
  Tape tape;
  const Tensor middle = mul(weight, weight);
  const Tensor fragile = record("fragile", clone(middle), {middle}, [&](const Tensor& dy, BackwardContext& context) {
    VT_CHECK(!is_broken, "fragile: out of order");
    context.add(0, dy);
  });
  const Tensor loss = mul(fragile, weight);
  const std::size_t bytes_before = memory_statistics().in_use;
  EXPECT_EQ(error_of([&] { tape.backward(loss, {.retain = true}); }), "fragile: out of order");
  EXPECT_EQ(memory_statistics().in_use, bytes_before) << "gradients of the failed run are still held";
  EXPECT_EQ(Tape::current(), &tape) << "recording must go on after the error";
  EXPECT_TRUE(tape.tracks(mul(weight, weight)));
  is_broken = false;
  expect_near(tape.backward(loss)[weight], {12});  // d w^3, with nothing left over from the failed run
}

TEST(TapeErrors, AnExceptionWithoutRetainEndsTheTapeButNotTheNext) {
  Parameter weight(vector_of({2}));
  {
    Tape tape;
    const Tensor loss =
        record("fragile", vector_of({1}), {weight}, [](const Tensor&, BackwardContext&) { throw Error("fragile"); });
    EXPECT_EQ(error_of([&] { tape.backward(loss); }), "fragile");
    EXPECT_TRUE(contains(error_of([&] { tape.backward(loss); }), "has run backward already"));
  }
  Tape tape;
  expect_near(tape.backward(mul(weight, weight))[weight], {4});
}

// ---- Depth ----

/// Runs `body` in a thread with `bytes` of stack.
void run_with_stack(std::size_t bytes, void* (*body)(void*), void* argument) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, bytes), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, &attributes, body, argument), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST(Depth, AMillionNodesAreBuiltRunAndDestroyedOn256KiBOfStack) {
  struct Outcome {
    double gradient = 0;
    std::int64_t nodes = 0;
    std::string error;
  } outcome;
  const auto body = [](void* argument) -> void* {
    auto& result = *static_cast<Outcome*>(argument);
    try {
      Tape tape;
      const Tensor leaf = tape.watch(ones({1}, DType::f64));
      Tensor x = leaf;
      const Tensor one = ones({1}, DType::f64);
      // Every tenth node keeps its input for backward, so that the chain is one of tensors as well
      // as of nodes.
      for (int i = 1; i < 1'000'000; ++i) x = i % 10 ? add(x, 1e-6) : mul(x, one);
      result.nodes = tape.size();
      result.gradient = tape.backward(x)[leaf].item();
    } catch (const std::exception& error) {
      result.error = error.what();
    }
    return nullptr;
  };
  run_with_stack(256 * 1024, body, &outcome);
  EXPECT_EQ(outcome.error, "");
  EXPECT_GE(outcome.nodes, 1'000'000);
  EXPECT_EQ(outcome.gradient, 1.0);
}

TEST(Depth, AnAbandonedGraphNeedsNoStackToDie) {
  double value = 0;
  const auto body = [](void* argument) -> void* {
    Tape tape;
    Tensor x = tape.watch(ones({1}, DType::f64));
    for (int i = 0; i < 200'000; ++i) x = mul(x, x);
    *static_cast<double*>(argument) = x.item();
    return nullptr;  // no backward: the tape goes with all its rules
  };
  run_with_stack(256 * 1024, body, &value);
  EXPECT_EQ(value, 1.0);
}

}  // namespace
}  // namespace vitrine
