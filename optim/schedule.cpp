// The formulas of the schedules.
#include "optim/schedule.h"

#include <cmath>
#include <numbers>

#include "tensor/error.h"

namespace vitrine {

double Schedule::at(std::int64_t t) const {
  VT_CHECK(t >= 0 && warmup >= 0 && total > 0,
           "schedule: t = {}, warmup {}, total {}, expected t, warmup >= 0, total > 0", t, warmup, total);
  if (t < warmup) {
    return warmup_start + static_cast<double>(t) * (base - warmup_start) / static_cast<double>(warmup);
  }
  if (decay == Decay::constant) return base;
  const std::int64_t since = decay_after_warmup ? t - warmup : t;
  if (since >= total) return minimum;
  const double done = static_cast<double>(since) / static_cast<double>(total);
  if (decay == Decay::linear) return base + (minimum - base) * done;
  return minimum + 0.5 * (base - minimum) * (1 + std::cos(std::numbers::pi * done));
}

Schedule Schedule::times(std::int64_t steps_per_unit) const {
  VT_CHECK(steps_per_unit > 0, "schedule: {} steps per unit, expected more than 0", steps_per_unit);
  Schedule finer = *this;
  finer.warmup *= steps_per_unit;
  finer.total *= steps_per_unit;
  return finer;
}

Schedule::Decay decay_from_name(std::string_view name) {
  if (name == "constant") return Schedule::Decay::constant;
  if (name == "linear") return Schedule::Decay::linear;
  if (name == "cosine") return Schedule::Decay::cosine;
  throw Error(fmt::format("schedule: \"{}\" is unknown, expected constant, linear or cosine", name));
}

}  // namespace vitrine
