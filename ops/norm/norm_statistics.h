// What a normalisation keeps of a row (layer_norm) or of a set of planes (batch_norm, group_norm)
// for backward, the same on both devices.
//
// The mean of a row far from zero is known only to within a rounding error of that size, which
// would spoil x - mean. So it is kept in two parts: `mean`, as it was rounded, and `mean_error`,
// the mean of x - mean. Their sum is the mean to nearly twice the digits.
#pragma once

#include <cmath>
#include <cstdint>

#include "tensor/device/host_device.h"

namespace vitrine::norm_statistics {

enum Statistic { mean_part, mean_error_part, rstd_part, statistic_count };  // of statistics (3, rows)

template <class C>
struct RowStatistics {
  C mean, mean_error, rstd;
  /// n = (x - mean) rstd
  VT_HD C normalize(C x) const { return ((x - mean) - mean_error) * rstd; }
};

/// Statistics of D elements from their rounded mean and the sums of (x - mean) and (x - mean)^2.
template <class C>
VT_HD RowStatistics<C> row_statistics(C mean, C sum, C sum_of_squares, C D, C epsilon) {
  const C mean_error = sum / D;
  C variance = sum_of_squares / D - mean_error * mean_error;
  if (variance < 0) variance = 0;  // by rounding; NaN stays
  return {mean, mean_error, 1 / std::sqrt(variance + epsilon)};
}

template <class C>
VT_HD RowStatistics<C> read_statistics(const C* statistics, std::int64_t row, std::int64_t rows) {
  return {statistics[mean_part * rows + row], statistics[mean_error_part * rows + row],
          statistics[rstd_part * rows + row]};
}

template <class C>
VT_HD void write_statistics(const RowStatistics<C>& s, C* statistics, std::int64_t row, std::int64_t rows) {
  statistics[mean_part * rows + row] = s.mean;
  statistics[mean_error_part * rows + row] = s.mean_error;
  statistics[rstd_part * rows + row] = s.rstd;
}

}  // namespace vitrine::norm_statistics
