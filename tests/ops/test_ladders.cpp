// Every rung of the ladders in benchmarks/ladders gives what loops in float64 give, at sizes that
// fill no tile.
#include <gtest/gtest.h>

#include "benchmarks/ladders/all_ladders.h"
#include "benchmarks/ladders/attention.h"
#include "benchmarks/ladders/layer_norm.h"
#include "ops/ops.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"

namespace vitrine::ladders {
namespace {

const Ladder& ladder_called(const std::string& name) {
  for (const Ladder& ladder : all_ladders()) {
    if (ladder.name == name) return ladder;
  }
  throw Error("no ladder is called " + name);
}

// The loops against the ops, in f64 on the CPU: neither knows the other.

TEST(Ladders, ReferenceOfLayerNormIsTheOp) {
  const Ladder& ladder = ladder_called("layer_norm");
  const Tensors in = ladder.inputs({3, 37});
  const auto f64 = [&](std::size_t i) { return cast_data(in.at(i), DType::f64); };
  expect_near(ladder.reference(in).at(0), layer_norm(f64(0), f64(1), f64(2), epsilon).to_vector<double>());
}

TEST(Ladders, ReferenceOfLayerNormBackwardIsTheOps) {
  const Ladder& ladder = ladder_called("layer_norm_backward");
  const Tensors in = ladder.inputs({3, 37}), got = ladder.reference(in);
  Tape tape;
  const auto f64 = [&](std::size_t i) { return cast_data(in.at(i), DType::f64); };
  const Tensor x = tape.watch(f64(0)), weight = tape.watch(f64(1)), bias = tape.watch(zeros_like(f64(1)));
  const Gradients expected = tape.backward(layer_norm(x, weight, bias, epsilon), f64(2));
  expect_near(got.at(0), expected[x].to_vector<double>());
  expect_near(got.at(1), expected[weight].to_vector<double>());
  expect_near(got.at(2), expected[bias].to_vector<double>());
}

TEST(Ladders, ReferenceOfAttentionIsTheOp) {
  const Ladder& ladder = ladder_called("attention");
  const Tensors in = ladder.inputs({2, 3, 5, head_size});
  const auto f64 = [&](std::size_t i) { return cast_data(in.at(i), DType::f64); };
  expect_near(ladder.reference(in).at(0), attention(f64(0), f64(1), f64(2)).to_vector<double>());
}

TEST(Ladders, WrongResultsAreRefused) {
  const Ladder& ladder = ladder_called("layer_norm");
  const Rung rung{"bent", {}};
  const Tensors expected{vector_of({1, 2, 2})};
  EXPECT_EQ(checked_error(ladder, rung, {vector_of({1, 2, 2})}, expected), 0);
  EXPECT_NEAR(checked_error(ladder, rung, {vector_of({1, 2, 2 + 3e-6})}, expected), 1e-6, 1e-8);
  const auto refusal = [&](const Tensors& results) {
    return error_of([&] { checked_error(ladder, rung, results, expected); });
  };
  EXPECT_EQ(refusal({vector_of({1, 2, 2.3})}),
            "layer_norm, bent: differs from the loops in f64 by 1.0e-01 of the norm, accepted 1e-05");
  EXPECT_TRUE(contains(refusal({vector_of({1, 2, NAN})}), "by nan of the norm"));
  EXPECT_EQ(refusal({vector_of({1, 2})}), "layer_norm, bent: result 0 has shape (2), expected (3)");
  EXPECT_EQ(refusal({}), "layer_norm, bent: 0 results, expected 1");
}

TEST(Ladders, ResultsOfTheRungBeforeDoNotCount) {
  const Tensor memory = vector_of({1, 2});
  Tensor first = memory.view_as({1}, {1}, 0);
  const Tensors results = fresh_results([&] {
    fill(first, 1);  // and forgets the second number, which happens to be right
    return Tensors{memory};
  });
  const auto values = results.at(0).to_vector<double>();
  EXPECT_EQ(values.at(0), 1);
  EXPECT_TRUE(std::isnan(values.at(1)));
}

#if VT_CUDA
class LaddersOnCuda : public CudaTest {
 protected:
  /// Every rung, twice, at one size, against the loops and against itself.
  static void climb(const std::string& name, const Shape& size, std::size_t first_rungs = SIZE_MAX) {
    const Ladder& ladder = ladder_called(name);
    const Tensors on_cpu = ladder.inputs(size), expected = ladder.reference(on_cpu), inputs = on_device(on_cpu, cuda());
    ASSERT_FALSE(ladder.rungs.empty());
    for (std::size_t i = 0; i < std::min(first_rungs, ladder.rungs.size()); ++i) {
      const Rung& rung = ladder.rungs[i];
      SCOPED_TRACE(name + " " + to_string(size) + ", " + rung.name);
      const Work work = rung.prepare(inputs);
      Tensors results = fresh_results(work);
      EXPECT_EQ(error_of([&] { checked_error(ladder, rung, results, expected); }), "");
      for (Tensor& result : results) result = clone(result);  // the next call may write the same memory
      const Tensors again = work();
      for (std::size_t r = 0; r < results.size(); ++r) {
        EXPECT_EQ(cast_data(again.at(r), DType::f64).to_vector<double>(),
                  cast_data(results.at(r), DType::f64).to_vector<double>());
      }
    }
  }

  /// What the rung whose name begins so says to a size.
  static std::string refusal(const std::string& name, const std::string& rung_name, const Shape& size) {
    const Ladder& ladder = ladder_called(name);
    for (const Rung& rung : ladder.rungs) {
      if (!rung.name.starts_with(rung_name)) continue;
      return error_of([&] { rung.prepare(on_device(ladder.inputs(size), cuda()))(); });
    }
    return "no such rung";
  }
};

TEST_F(LaddersOnCuda, LayerNorm) {
  climb("layer_norm", {5, 36});
  climb("layer_norm", {131, 4});  // more rows than a block of rung 1 has threads
  climb("layer_norm", {2, most_columns});
  climb("layer_norm", {3, 301}, 4);  // rung 5 wants a multiple of 4
  climb("layer_norm", {0, 8});
}

TEST_F(LaddersOnCuda, LayerNormBackward) {
  climb("layer_norm_backward", {5, 37});
  climb("layer_norm_backward", {2, most_columns});
  climb("layer_norm_backward", {131, 130});  // three parts of rows, more columns than a block has threads
}

TEST_F(LaddersOnCuda, Attention) {
  climb("attention", {1, 2, 1, head_size});
  climb("attention", {1, 3, 17, head_size});  // one key more than a tile
  climb("attention", {2, 1, 67, head_size});  // more queries than a block of rung 3
}

TEST_F(LaddersOnCuda, RungsRefuseWhatTheyCannotHold) {
  EXPECT_EQ(refusal("layer_norm", "the row stays", {1, most_columns + 4}),
            "layer_norm, the row stays in registers: D is 1028, expected a multiple of 1 up to 1024");
  EXPECT_EQ(refusal("layer_norm", "16 bytes", {1, 37}),
            "layer_norm, 16 bytes at a time: D is 37, expected a multiple of 4 up to 1024");
  EXPECT_EQ(refusal("layer_norm_backward", "x and dy are read once", {1, most_columns + 1}),
            "layer_norm_backward, x and dy are read once: D is 1025, expected at most 1024");
  EXPECT_EQ(refusal("attention", "K and V", {1, 1, most_keys + 1, head_size}),
            "attention, K and V of a head in shared memory: N is 257, expected at most 256");
}
#endif

}  // namespace
}  // namespace vitrine::ladders
