// FusedOptimizer: an optimiser whose update is one formula for each element, written once for the
// CPU and CUDA.
//
// Such an optimiser is its options, its formula and a row in optimizer_table.cpp: lion.h and
// lion.cu are all of Lion.
#pragma once

#include <cstdint>
#include <vector>

#include "optim/optimizer.h"

namespace vitrine {

/// Applies Update<T>, the formula for elements of type T (f32 or f64), to segments of the arenas.
/// Where Update is defined, in the optimiser's .cu file, stands `template class
/// FusedUpdate<Options, Update>;`. It has
///
///   static constexpr std::array moments{"first_moment", ...};   // the names of its state
///   static Update at(const Options&, const ArenaSegment&, std::int64_t step);   // step: from 1
///   VT_HD void operator()(T& p, T g, T& moment...) const;
template <class Options, template <class> class Update>
class FusedUpdate {
 public:
  static std::vector<MomentSpec> moments();

  /// Brings the formula of the next update, with its learning rate and the like, to the device.
  void prepare(const Options& options, const std::vector<ArenaSegment>& segments, std::int64_t step,
               const Arenas& arenas);

  /// Works on the device alone: p, g and the moments of the arenas are those of the formula.
  void operator()(const std::vector<ArenaSegment>& segments, Arenas& arenas) const;

 private:
  Tensor functors_;  // bytes on the device: an Update<T> for each segment
};

/// Options has `static constexpr const char* name`, which begins messages, `learning_rate`, and
/// `void check() const`, which throws where a value is out of range.
template <class Options, template <class> class Update>
class FusedOptimizer final : public Optimizer {
 public:
  explicit FusedOptimizer(std::vector<ParameterGroup> groups, const Options& options = {})
      : Optimizer(Options::name, std::move(groups), options.learning_rate, FusedUpdate<Options, Update>::moments()),
        options_(options) {
    options.check();
  }

 private:
  void prepare(const std::vector<ArenaSegment>& segments) override {
    update_.prepare(options_, segments, step_count(), arenas_);
  }
  void update(const std::vector<ArenaSegment>& segments) override { update_(segments, arenas_); }

  Options options_;
  FusedUpdate<Options, Update> update_;
};

}  // namespace vitrine
