// Many copies at once: the same as one by one, on both devices, for layouts and dtypes that the
// kernel leaves to others too.
#include <gtest/gtest.h>

#include "op_table/op_table.h"
#include "ops/ops.h"
#include "tests/support/cuda_test.h"

namespace vitrine {
namespace {

/// 300 small pairs, more than fit in one launch; some transposed, not aligned on either side, of
/// another dtype or empty.
void expect_like_one_by_one(Device device, DType dtype, bool add) {
  std::vector<Tensor> targets, sources, expected;
  for (std::int64_t i = 0; i < 300; ++i) {
    const Shape shape{i % 7, 5};
    const bool transposed = i % 11 == 3, shifted = i % 5 == 2;
    const Tensor values =
        to_device(test_values(transposed ? Shape{5, i % 7} : shape, static_cast<std::uint64_t>(i)), device);
    const DType source_dtype = !add && i % 13 == 6 ? DType::i64 : i % 3 == 0 ? DType::bf16 : dtype;
    Tensor source = cast_data(transposed ? transpose(values) : values, source_dtype);
    if (i % 5 == 3) {  // one element behind the start of its memory
      const Tensor longer = concat({zeros({1}, source_dtype, device), flatten(source)}, 0);
      source = reshape(slice(longer, 0, 1, longer.numel()), shape);
    }
    Tensor arena = full({i % 7 * 5 + 1}, 3, dtype, device);
    targets.push_back(arena.view_as(shape, contiguous_strides(shape), shifted ? 1 : 0));
    sources.push_back(source);
    Tensor one = clone(targets.back());
    add ? add_into(one, cast_data(source, dtype)) : copy_into(one, source);
    expected.push_back(one);
  }
  add ? add_all_into(targets, sources) : copy_all_into(targets, sources);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    EXPECT_EQ(cast_data(targets[i], DType::f64).to_vector<double>(),
              cast_data(expected[i], DType::f64).to_vector<double>())
        << i << " on " << to_string(device);
  }
}

TEST(CopyAll, OnCpu) {
  expect_like_one_by_one(cpu, DType::f32, false);
  expect_like_one_by_one(cpu, DType::f64, true);
}

void expect_blend(Device device, DType dtype) {
  std::vector<Tensor> targets, sources;
  std::vector<std::vector<double>> expected;
  for (std::int64_t i = 0; i < 200; ++i) {
    const Tensor values = to_device(cast_data(test_values({i % 9, 3}, static_cast<std::uint64_t>(i)), dtype), device);
    sources.push_back(i % 4 == 1 ? transpose(contiguous_data(transpose(values))) : values);
    targets.push_back(full({i % 9, 3}, 2, dtype, device));
    expected.push_back(cast_data(values * 0.75 + 0.5, DType::f64).to_vector<double>());
  }
  blend_all_into(targets, 0.25, sources, 0.75);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const auto actual = cast_data(targets[i], DType::f64).to_vector<double>();
    for (std::size_t j = 0; j < actual.size(); ++j) EXPECT_NEAR(actual[j], expected[i][j], 1e-6) << i;
  }
}

TEST(CopyAll, BlendsOnCpu) {
  expect_blend(cpu, DType::f32);
  expect_blend(cpu, DType::f64);
  std::vector<Tensor> strided{transpose(ones({2, 3}))}, rounded{ones({2}, DType::bf16)}, good{ones({2})};
  std::vector<Tensor> mixed{ones({2}), ones({2}, DType::f64)};
  EXPECT_THROW(blend_all_into(mixed, 1, std::vector{ones({2}), ones({2})}, 1), Error);
  EXPECT_THROW(blend_all_into(strided, 1, std::vector{ones({3, 2})}, 1), Error);
  EXPECT_THROW(blend_all_into(rounded, 1, std::vector{ones({2})}, 1), Error);
  EXPECT_THROW(blend_all_into(good, 1, std::vector{ones({3})}, 1), Error);
  EXPECT_THROW(blend_all_into(good, 1, {}, 1), Error);
}

TEST(CopyAll, NeedsAsManySourcesAsTargets) {
  std::vector<Tensor> targets{ones({2})};
  EXPECT_THROW(copy_all_into(targets, {}), Error);
}

#if VT_CUDA
using CopyAllCuda = CudaTest;

TEST_F(CopyAllCuda, LikeOneByOne) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const bool add : {false, true}) expect_like_one_by_one(cuda(), dtype, add);
  }
}

TEST_F(CopyAllCuda, Blends) {
  expect_blend(cuda(), DType::f32);
  expect_blend(cuda(), DType::f64);
}
#endif

}  // namespace
}  // namespace vitrine
