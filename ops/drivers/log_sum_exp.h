// ln sum e^x of one row without overflow: what softmax, log_softmax and the losses share.
#pragma once

#include <limits>

#include "ops/drivers/lanes.h"
#include "ops/drivers/math.h"
#include "ops/drivers/warp_rows.h"
#include "tensor/dtype.h"

namespace vitrine {

/// ln sum e^x of a row in two parts, its maximum and ln sum e^(x - max): together they keep more
/// digits than their sum. A row of -infinity has {0, 0}: its probabilities are 0, their logarithms
/// -infinity.
template <class C>
struct LogSumExp {
  C max, log_total;
  VT_HD C log_probability(C x) const { return (x - max) - log_total; }
  VT_HD C probability(C x) const { return math::exp(log_probability(x)); }
};

template <class T, class C = Compute<T>>
LogSumExp<C> log_sum_exp_row(const T* x, std::int64_t count) {
  const C max = lane_max<C>(count, [&](auto i) { return static_cast<C>(x[i]); });
  if (max == -std::numeric_limits<C>::infinity()) return {0, 0};
  return {max, std::log(lane_sum<C>(count, [&](auto i) { return math::exp(static_cast<C>(x[i]) - max); }))};
}

#if VT_CUDA
/// The same by one warp, in every lane.
template <class T, class C = Compute<T>>
__device__ LogSumExp<C> warp_log_sum_exp(const T* x, std::int64_t count) {
  const auto larger_of = [](C a, C b) { return larger(a, b); };
  C max = -std::numeric_limits<C>::infinity();
  const auto take = [&](std::int64_t, C value) { max = larger_of(max, value); };
  warp_for_each(count, take, x);
  max = warp_reduce(max, larger_of);
  if (max == -std::numeric_limits<C>::infinity()) return {0, 0};
  const auto term = [&](C value) { return math::exp(value - max); };
  return {max, math::log(warp_sum_of(count, term, x))};
}
#endif

}  // namespace vitrine
