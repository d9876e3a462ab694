// Dtypes, shapes, creation, conversion and the raw memory operations of a tensor.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/support/expectations.h"

namespace vitrine {
namespace {

TEST(DTypes, NamesAndSizesAgree) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8, DType::boolean}) {
    EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
    EXPECT_EQ(empty({3}, dtype).storage()->bytes(), 3 * size_of(dtype));
  }
  EXPECT_EQ(error_of([] { dtype_from_name("f16"); }),
            "dtype: 'f16' is unknown, expected one of f32, f64, bf16, i32, i64, u8, bool");
}

TEST(DTypes, Bfloat16RoundsToNearestEven) {
  const auto rounded = [](float x) { return static_cast<float>(bfloat16(x)); };
  EXPECT_EQ(rounded(1.0f), 1.0f);
  EXPECT_EQ(rounded(1.0f + 0x1p-8f), 1.0f);            // a tie, down to the even neighbour
  EXPECT_EQ(rounded(1.0f + 0x3p-8f), 1.0f + 0x1p-6f);  // a tie, up to the even neighbour
  EXPECT_EQ(rounded(1.0f + 0x1.8p-8f), 1.0f + 0x1p-7f);
  EXPECT_EQ(rounded(-3.0e38f), -std::bit_cast<float>(std::uint32_t{0x7F62} << 16));
  EXPECT_TRUE(std::isinf(rounded(std::numeric_limits<float>::max())));
  EXPECT_TRUE(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0x7F800001u))));  // a NaN whose upper half alone is infinity
}

TEST(Shapes, Arithmetic) {
  EXPECT_EQ(to_string(Shape{}), "()");
  EXPECT_EQ(to_string(Shape{8, 65, 192}), "(8, 65, 192)");
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 0, 5}), 0);
  EXPECT_EQ(contiguous_strides({2, 3, 4}), (Strides{12, 4, 1}));
  EXPECT_EQ(normalize_dim(-1, 3, "op"), 2);
  EXPECT_EQ(error_of([] { normalize_dim(3, 3, "op"); }), "op: dim is 3, expected -3 to 2 for a tensor with 3 dims");
  EXPECT_EQ(broadcast_shapes({3, 1, 5}, {4, 1}, "op"), (Shape{3, 4, 5}));
  EXPECT_EQ(broadcast_shapes({0}, {1}, "op"), (Shape{0}));
  EXPECT_TRUE(
      contains(error_of([] { broadcast_shapes({2}, {3}, "add"); }), "add: shapes (2) and (3) do not broadcast"));
  EXPECT_TRUE(contains(error_of([] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }), "at most 8 dims"));
}

TEST(Tensors, AreCreatedAsAsked) {
  EXPECT_FALSE(Tensor().defined());
  EXPECT_EQ(full({2}, 2.5).to_vector<float>(), (std::vector<float>{2.5f, 2.5f}));
  EXPECT_EQ(arange(3).to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_EQ(full({}, -7, DType::i32).item(), -7);
  EXPECT_EQ(error_of([] { zeros({2}).item(); }), "item: the tensor has shape (2), expected one element");
  EXPECT_EQ(error_of([] { from_values<float>({1, 2}, {3}); }), "from_span: 2 values do not fill shape (3), expected 3");
  EXPECT_TRUE(contains(error_of([] { zeros({2}).data<double>(); }), "data: asked for f64, expected f32"));
  EXPECT_TRUE(contains(error_of([] { empty({-1}); }), "negative size"));
}

TEST(Tensors, ConvertBetweenAllDtypes) {
  const Tensor x = vector_of({-1.75, 0, 0.4, 2.5, 200});
  EXPECT_EQ(cast_data(x, DType::i32).to_vector<std::int32_t>(), (std::vector<std::int32_t>{-1, 0, 0, 2, 200}));
  const Tensor truth = cast_data(x, DType::boolean);  // 0.4 is true: what counts is x != 0
  EXPECT_EQ(cast_data(truth, DType::u8).to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{1, 0, 1, 1, 1}));
  expect_near(cast_data(cast_data(x, DType::bf16), DType::f64), {-1.75, 0, 0.400390625, 2.5, 200});
  for (const DType from : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8}) {
    for (const DType to : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8}) {
      expect_near(cast_data(cast_data(cast_data(vector_of({0, 1, 7, 64}), from), to), DType::f64), {0, 1, 7, 64});
    }
  }
}

TEST(Tensors, CopyFillAndAddFollowStrides) {
  Tensor base = zeros({3, 4}, DType::f64);
  Tensor columns = base.view_as({4, 2}, {1, 8}, 0);  // rows 0 and 2, transposed
  copy_into(columns, from_values<double>({1, 2, 3, 4, 5, 6, 7, 8}, {4, 2}));
  expect_near(base, {1, 3, 5, 7, 0, 0, 0, 0, 2, 4, 6, 8});
  Tensor middle = base.view_as({4}, {1}, 4);
  fill(middle, 9);
  add_into(columns, columns);
  expect_near(base, {2, 6, 10, 14, 9, 9, 9, 9, 4, 8, 12, 16});
  EXPECT_EQ(error_of([&] { copy_into(middle, zeros({3})); }),
            "copy: target has shape (4) and source (3), expected one shape");
  EXPECT_EQ(error_of([&] { add_into(middle, zeros({4})); }),
            "add_into: target is f64 and source f32, expected one dtype");
}

// More elements than one chunk of parallel_for, in rows and in one run.
TEST(Tensors, CopyLargeTensors) {
  Tensor x = empty({300, 301}, DType::i64);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data<std::int64_t>()[i] = i;
  const Tensor transposed = clone(x.view_as({301, 300}, {1, 301}, 0));
  const auto values = transposed.to_vector<std::int64_t>();
  for (std::int64_t i = 0; i < x.numel(); ++i) ASSERT_EQ(values[static_cast<std::size_t>(i)], i % 300 * 301 + i / 300);
  EXPECT_EQ(clone(x).to_vector<std::int64_t>(), x.to_vector<std::int64_t>());
}

TEST(Devices, AreNamedAndCudaSaysThatItIsAbsent) {
  EXPECT_EQ(device_from_name("cpu"), cpu);
  EXPECT_EQ(device_from_name("cuda:1"), cuda(1));
  EXPECT_EQ(to_string(cuda()), "cuda:0");
  EXPECT_EQ(error_of([] { device_from_name("cuda:x"); }), "device: 'cuda:x' is unknown, expected cpu, cuda or cuda:N");
  if (cuda_device_count() == 0) {
    EXPECT_TRUE(contains(error_of([] { to_device(zeros({1}), cuda()); }), "to_device: device is cuda:0"));
  }
}

}  // namespace
}  // namespace vitrine
