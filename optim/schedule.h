// Learning-rate schedules: pure functions of time, so that there is nothing to save and any moment
// can be asked for.
#pragma once

#include <cstdint>
#include <string_view>

namespace vitrine {

/// Warm-up, then a decay. Time t and all lengths are in one unit: epochs, or optimiser steps.
///
///   t < warmup:  warmup_start + t (base - warmup_start) / warmup
///   constant:    base
///   linear:      base + (minimum - base) t / total, then minimum
///   cosine:      minimum + (base - minimum)(1 + cos(pi t / total)) / 2, then minimum
///
/// As in timm, the decay counts t from 0, so the end of the warm-up lies a little below base (at t
/// = 5 of 300 epochs: 0.9993 of it). With `decay_after_warmup` it counts from the end of the
/// warm-up, and `total` is the length after it.
///
/// DeiT trains by epoch and sets the rate of t = e after epoch e, so its epochs 0 and 1 both run at
/// at(0).
struct Schedule {
  enum class Decay { constant, linear, cosine };

  Decay decay = Decay::cosine;
  double base = 1e-3;
  double minimum = 0;
  double warmup_start = 0;
  std::int64_t warmup = 0;
  std::int64_t total = 1;
  bool decay_after_warmup = false;

  /// The learning rate at time t >= 0.
  double at(std::int64_t t) const;

  /// The same schedule in a finer unit: of epochs in steps, say.
  Schedule times(std::int64_t steps_per_unit) const;
};

/// "constant", "linear" or "cosine"; throws and lists these for anything else.
Schedule::Decay decay_from_name(std::string_view name);

}  // namespace vitrine
