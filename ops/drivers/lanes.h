// Sums and maxima over one row on the CPU, in a fixed order of operations that the compiler can
// vectorise.
//
//   float total = lane_sum<float>(D, [&](std::int64_t i) { return x[i] * x[i]; });
//
// A plain `total += f(i)` is a chain of dependent additions, which the compiler may not reorder.
// Here element i goes to lane i % lane_count: the lanes are independent, so they become vector
// registers, and a tree joins them at the end.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

namespace vitrine {

/// About as many elements make a task on the CPU: enough work to be worth handing to a thread.
inline constexpr std::int64_t elements_per_chunk = 1 << 14;

/// Rows of D elements in one task on the CPU. It depends on the row's length alone, and with it
/// which rows share a partial sum: results are the same for any number of threads.
inline std::int64_t rows_per_chunk(std::int64_t D) {
  return std::clamp<std::int64_t>(elements_per_chunk / std::max<std::int64_t>(1, D), 1, 256);
}

inline constexpr int lane_count = 32;

/// Joins the lanes in a balanced tree; the result is in lanes[0]. The width is a constant for the
/// vectoriser's sake.
template <int width = lane_count / 2, class State, class Combine>
void join_lanes(State (&lanes)[lane_count], const Combine& combine) {
  for (int l = 0; l < width; ++l) lanes[l] = combine(lanes[l], lanes[l + width]);
  if constexpr (width > 1) join_lanes<width / 2>(lanes, combine);
}

/// term(0) combined with ... term(count - 1), starting from `identity`. `term` must have no side
/// effects.
template <class State, class Term, class Combine>
State lane_reduce(std::int64_t count, State identity, const Term& term, const Combine& combine) {
  State lanes[lane_count];
  for (auto& lane : lanes) lane = identity;
  std::int64_t i = 0;
  for (; i + lane_count <= count; i += lane_count) {
    for (int l = 0; l < lane_count; ++l) lanes[l] = combine(lanes[l], term(i + l));
  }
  for (; i < count; ++i) lanes[i % lane_count] = combine(lanes[i % lane_count], term(i));
  join_lanes(lanes, combine);
  return lanes[0];
}

template <class C, class Term>
C lane_sum(std::int64_t count, const Term& term) {
  return lane_reduce(count, C(0), term, [](C a, C b) { return a + b; });
}

/// The larger of two values, where NaN is larger than all. Two selections vectorise; one of two
/// conditions does not.
template <class C>
constexpr C larger(C a, C b) {
  const C m = a > b ? a : b;  // b where either is NaN
  return a == a ? m : a;
}

/// NaN if there is one; -infinity where count is 0.
template <class C, class Term>
C lane_max(std::int64_t count, const Term& term) {
  return lane_reduce(count, -std::numeric_limits<C>::infinity(), term, [](C a, C b) { return larger(a, b); });
}

}  // namespace vitrine
