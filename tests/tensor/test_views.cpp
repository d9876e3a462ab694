// Views: what shares storage and what does not, version counters, and in-place writes through a
// view.
#include <gtest/gtest.h>

#include <cstring>

#include "op_table/op_table.h"
#include "ops/ops.h"
#include "tensor/parallel.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

bool share_storage(const Tensor& a, const Tensor& b) { return a.storage() == b.storage(); }

/// 0, 1, 2, ... in the given shape.
Tensor counting(const Shape& shape) { return reshape(arange(element_count(shape), DType::f64), shape); }

// ---- What shares storage ----

TEST(Views, ShareTheStorageOfTheirInput) {
  const Tensor x = counting({2, 3, 4});
  const std::vector<std::pair<const char*, Tensor>> views = {{"reshape", reshape(x, {6, 4})},
                                                             {"flatten", flatten(x)},
                                                             {"permute", permute(x, {2, 0, 1})},
                                                             {"transpose", transpose(x)},
                                                             {"expand", expand(x, {5, 2, 3, 4})},
                                                             {"unsqueeze", unsqueeze(x, 1)},
                                                             {"slice", slice(x, 2, 1, 4, 2)},
                                                             {"select", select(x, 1, 2)},
                                                             {"split", split(x, 2, 2)[1]},
                                                             {"squeeze", squeeze(unsqueeze(x, 0), 0)},
                                                             {"contiguous", contiguous(x)},
                                                             {"cast", cast(x, DType::f64)},
                                                             {"to", to(x, cpu)}};
  for (const auto& [name, view] : views) EXPECT_TRUE(share_storage(view, x)) << name;
}

TEST(Views, CopiesDoNotShareStorage) {
  const Tensor x = counting({2, 3});
  const std::vector<std::pair<const char*, Tensor>> copies = {{"clone", clone(x)},
                                                              {"concat of one", concat({x}, 0)},
                                                              {"stack of one", stack({x})},
                                                              {"flip of no dim", flip(x, {})},
                                                              {"roll by nothing", roll(x, {0}, {0})},
                                                              {"pad by nothing", pad(x, {0, 0}, {0, 0})},
                                                              {"cast", cast(x, DType::f32)},
                                                              {"contiguous", contiguous(transpose(x))}};
  for (const auto& [name, copy] : copies) EXPECT_FALSE(share_storage(copy, x)) << name;
}

TEST(Views, ReshapeCopiesOnlyWhereTheStridesForceIt) {
  const Tensor x = counting({4, 6});
  EXPECT_TRUE(share_storage(reshape(slice(x, 0, 0, 4, 2), {2, 2, 3}), x)) << "rows with a gap can be cut";
  EXPECT_TRUE(share_storage(reshape(transpose(x), {2, 3, 4}), x)) << "a transposed dim can be cut";
  EXPECT_TRUE(share_storage(reshape(expand(reshape(x, {1, 24}), {3, 24}), {3, 4, 6}), x)) << "expanded dims stay";
  EXPECT_TRUE(share_storage(reshape(slice(x, 1, 0, 1), {4}), x)) << "a dim of size 1 is free";
  EXPECT_FALSE(share_storage(reshape(transpose(x), {24}), x)) << "transposed dims cannot be merged";
  EXPECT_FALSE(share_storage(reshape(slice(x, 1, 0, 5), {20}), x)) << "rows with a gap cannot be merged";
  EXPECT_EQ(reshape(transpose(x), {24}).to_vector<double>(), clone(transpose(x)).to_vector<double>());
}

TEST(Views, OutliveTheTensorThatTheyLookAt) {
  Tensor view;
  {
    const Tensor x = counting({3, 4});
    view = slice(transpose(x), 0, 1, 3);
  }
  EXPECT_EQ(view.to_vector<double>(), (std::vector<double>{1, 5, 9, 2, 6, 10}));
}

TEST(Views, OfViewsAddUpTheirOffsets) {
  const Tensor x = counting({6, 8});
  const Tensor view = select(slice(transpose(slice(x, 0, 1, 6, 2)), 0, 2, 8, 3), 1, -1);  // row 5, columns 2 and 5
  EXPECT_TRUE(share_storage(view, x));
  EXPECT_EQ(view.offset(), 5 * 8 + 2);
  EXPECT_EQ(view.to_vector<double>(), (std::vector<double>{42, 45}));
}

// ---- Sizes that break 16-bit and 32-bit arithmetic ----

TEST(LargeTensors, HaveMoreThan65535Rows) {
  constexpr std::int64_t rows = 70'001;
  const Tensor x = reshape(arange(rows * 3, DType::f64), {rows, 3});
  const Tensor last = from_values<std::int64_t>({rows - 1}, {1});
  expect_near(index_select(x, 0, last), {rows * 3.0 - 3, rows * 3.0 - 2, rows * 3.0 - 1});
  expect_near(select(contiguous(transpose(x)), 1, rows - 1), {rows * 3.0 - 3, rows * 3.0 - 2, rows * 3.0 - 1});
  expect_near(select(flip(x, {0}), 0, rows - 1), {0, 1, 2});
  expect_near(select(concat({x, x}, 0), 0, 2 * rows - 1), {rows * 3.0 - 3, rows * 3.0 - 2, rows * 3.0 - 1});
  Tape tape;
  const Tensor leaf = tape.watch(x);
  expect_near(select(tape.backward(sum(slice(leaf, 0, rows - 1, rows)))[leaf], 0, rows - 1), {1, 1, 1});
}

TEST(LargeTensors, HaveMoreThan2To31Elements) {
  constexpr std::int64_t rows = (std::int64_t{1} << 31) + 6;
  const Tensor x = expand(counting({1, 2}), {rows, 2});  // one row of memory
  EXPECT_EQ(x.numel(), 2 * rows);
  EXPECT_EQ(slice(x, 0, 1, rows, 2).size(0), rows / 2);
  expect_near(select(x, 0, rows - 1), {0, 1});
  expect_near(select(select(reshape(x, {2, rows / 2, 2}), 0, 1), 0, rows / 2 - 1), {0, 1});
  const Tensor bytes = empty({rows}, DType::u8);  // only the pages that are written become memory
  Tensor end = slice(bytes, 0, rows - 3, rows), tail = slice(bytes, 0, rows - 2, rows);
  fill(end, 0);
  fill(tail, 7);
  EXPECT_EQ(tail.offset(), rows - 2);
  EXPECT_EQ(cast(end, DType::f64).to_vector<double>(), (std::vector<double>{0, 7, 7}));
}

// ---- Writing through views ----

TEST(InPlace, WritesThroughAViewReachTheBase) {
  Tensor x = zeros({3, 4}, DType::f64);
  Tensor column = select(x, 1, 2), corner = slice(slice(x, 0, 0, 2), 1, 0, 2), turned = transpose(x);
  fill(column, 7);
  copy_into(corner, counting({2, 2}));
  add_into(turned, ones({4, 3}, DType::f64));
  EXPECT_EQ(x.to_vector<double>(), (std::vector<double>{1, 2, 8, 1, 3, 4, 8, 1, 1, 1, 8, 1}));
}

TEST(InPlace, EveryWriteCountsOnceAndViewsShareTheCount) {
  Tensor x = zeros({2, 3}, DType::f64);
  Tensor view = transpose(x);
  const auto before = x.storage()->version();
  fill(view, 1);
  EXPECT_EQ(x.storage()->version(), before + 1);
  copy_into(x, view.view_as(x.shape(), x.strides(), 0));
  add_into(x, x);
  EXPECT_EQ(view.storage()->version(), before + 3);
  const Tensor copy = clone(x);
  fill(x, 2);
  EXPECT_EQ(copy.to_vector<double>(), std::vector<double>(6, 2.0)) << "add_into doubled the ones; fill came later";
}

TEST(InPlace, OpsAndViewsDoNotCountAsWrites) {
  const Tensor x = counting({2, 3});
  const auto before = x.storage()->version();
  (void)concat({x, x}, 0);
  (void)gather(x, 1, zeros({2, 3}, DType::i64));
  (void)mul(transpose(x), transpose(x));
  EXPECT_EQ(x.storage()->version(), before);
}

TEST(InPlace, ChangingASavedTensorThroughAViewIsAnErrorThatNamesTheOp) {
  Tensor x = counting({2, 3});
  Tape tape;
  const Tensor leaf = tape.watch(x);
  const Tensor loss = sum(mul(leaf, leaf));
  Tensor view = select(x, 0, 1);
  fill(view, 0);
  const std::string message = error_of([&] { tape.backward(loss); });
  EXPECT_TRUE(contains(message, "mul: ") && contains(message, "(2, 3)") && contains(message, "in place")) << message;
}

TEST(InPlace, ChangingWhatNoRuleKeepsIsAllowed) {
  Tensor x = counting({2, 3});
  Tape tape;
  const Tensor leaf = tape.watch(x);
  const Tensor loss = sum(slice(reshape(leaf, {6}), 0, 1, 5, 2));  // views and sums keep shapes, not values
  fill(x, 0);
  EXPECT_EQ(tape.backward(loss)[leaf].to_vector<double>(), (std::vector<double>{0, 1, 0, 1, 0, 0}));
}

TEST(InPlace, ChangingAnIndexBeforeBackwardIsAnErrorThatNamesTheOp) {
  const Tensor weight = counting({4, 2});
  for (const std::string op : {"gather", "index_select", "embedding"}) {
    Tensor index = op == "gather" ? zeros({4, 2}, DType::i64) : zeros({3}, DType::i64);
    Tape tape;
    const Tensor leaf = tape.watch(weight);
    const Tensor y = op == "gather"         ? gather(leaf, 0, index)
                     : op == "index_select" ? index_select(leaf, 0, index)
                                            : embedding(leaf, index);
    const Tensor loss = sum(y);
    fill(index, 1);
    const std::string message = error_of([&] { tape.backward(loss); });
    EXPECT_TRUE(message.starts_with(op + ": ") && contains(message, "in place")) << op << " said: " << message;
  }
}

// ---- Conversions ----

TEST(Cast, PassesGradientsBetweenFloatingTypesOnly) {
  const Tensor x = from_values<float>({1.25f, -2.5f, 3}, {3});
  for (const DType dtype : {DType::f64, DType::bf16}) {
    Tape tape;
    const Tensor leaf = tape.watch(x);
    const Tensor y = cast(leaf, dtype);
    EXPECT_EQ(y.dtype(), dtype);
    const Tensor gradient = tape.backward(y, cast(from_values<double>({1, 2, -0.5}, {3}), dtype))[leaf];
    ASSERT_TRUE(gradient.defined());
    EXPECT_EQ(gradient.dtype(), DType::f32);
    EXPECT_EQ(gradient.to_vector<float>(), (std::vector<float>{1, 2, -0.5f}));
  }
  Tape tape;
  const Tensor leaf = tape.watch(x);
  EXPECT_FALSE(tape.tracks(cast(leaf, DType::i32)));
  EXPECT_FALSE(tape.tracks(cast(cast(leaf, DType::i64), DType::f32)));
  EXPECT_EQ(cast(leaf, DType::i32).to_vector<std::int32_t>(), (std::vector<std::int32_t>{1, -2, 3}));
}

// ---- Sums over repeated indices ----

TEST(Indexing, GradientsOfRepeatedIndicesHaveTheSameBitsForAnyNumberOfThreads) {
  const Tensor weight = cast(test_values({5, 259}, 1), DType::f32), dy = cast(test_values({3001, 259}, 2), DType::f32);
  const Tensor index = test_indices({3001}, 5, 3);
  const int threads_before = num_threads();
  std::vector<std::vector<float>> gradients;
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    Tape tape;
    const Tensor leaf = tape.watch(weight);
    gradients.push_back(tape.backward(embedding(leaf, index), dy)[leaf].to_vector<float>());
  }
  set_num_threads(threads_before);
  for (const auto& gradient : gradients) {
    EXPECT_EQ(std::memcmp(gradient.data(), gradients[0].data(), gradient.size() * sizeof(float)), 0);
  }
  std::vector<double> expected(5 * 259, 0);
  for (std::int64_t i = 0; i < 3001; ++i) {
    for (std::int64_t d = 0; d < 259; ++d) {
      expected[static_cast<std::size_t>(index.data<std::int64_t>()[i] * 259 + d)] += dy.data<float>()[i * 259 + d];
    }
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(gradients[0][i] - expected[i]) / std::max(1.0, std::abs(expected[i]));
    EXPECT_TRUE(error <= 1e-4) << "entry " << i << ": " << gradients[0][i] << ", expected " << expected[i];
  }
}

TEST(Indexing, GradientsInBf16AreSummedInFloat) {
  Tape tape;
  const Tensor weight = tape.watch(zeros({2, 3}, DType::bf16));
  const Tensor y = embedding(weight, zeros({1000}, DType::i64));
  const Tensor gradient = tape.backward(y, ones({1000, 3}, DType::bf16))[weight];
  // 1000 is a bf16 number; sums kept in bf16 would stop at 256, where adding 1 changes nothing.
  EXPECT_EQ(cast(gradient, DType::f32).to_vector<float>(), (std::vector<float>{1000, 1000, 1000, 0, 0, 0}));
}

}  // namespace
}  // namespace vitrine
