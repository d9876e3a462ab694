// The AdamW update, written once for both devices.
#include "optim/adamw.h"

#include <cmath>

#include "optim/fused_update.h"

namespace vitrine {
namespace {

/// One element: p, g, m, v. All factors are prepared in double.
template <class T>
struct AdamWUpdate {
  const double* statistics;               // of the gradient, see squared_norm.h
  T gradient_scale, keep;                 // keep = 1 - lr weight_decay
  T beta1, beta2, other1, other2;         // other = 1 - beta
  T step_size, root_correction, epsilon;  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)

  VT_HD bool begin() { return is_good_gradient(statistics, gradient_scale); }
  VT_HD void operator()(T& p, T gradient, T& m, T& v) const {
    const T g = gradient * gradient_scale;
    m = beta1 * m + other1 * g;
    v = beta2 * v + other2 * g * g;
    p = keep * p - step_size * m / (std::sqrt(v) * root_correction + epsilon);
  }
};

template <class T>
AdamWUpdate<T> functor_of(const AdamWOptions& options, const ArenaSegment& segment, std::int64_t t,
                          const double* statistics) {
  const auto time = static_cast<double>(t);
  const double correction1 = 1 - std::pow(options.beta1, time), correction2 = 1 - std::pow(options.beta2, time);
  return {.statistics = statistics,
          .gradient_scale = 1,
          .keep = static_cast<T>(1 - segment.learning_rate * segment.weight_decay),
          .beta1 = static_cast<T>(options.beta1),
          .beta2 = static_cast<T>(options.beta2),
          .other1 = static_cast<T>(1 - options.beta1),
          .other2 = static_cast<T>(1 - options.beta2),
          .step_size = static_cast<T>(segment.learning_rate / correction1),
          .root_correction = static_cast<T>(1 / std::sqrt(correction2)),
          .epsilon = static_cast<T>(options.epsilon)};
}

}  // namespace

AdamW::AdamW(std::vector<ParameterGroup> groups, AdamWOptions options)
    : Optimizer("adamw", std::move(groups), options.learning_rate, {"first_moment", "second_moment"}),
      options_(options) {
  VT_CHECK(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
           "adamw: betas are {} and {}, expected both in [0, 1)", options.beta1, options.beta2);
  VT_CHECK(options.epsilon >= 0, "adamw: epsilon is {}, expected 0 or more", options.epsilon);
}

void AdamW::prepare(const std::vector<ArenaSegment>& segments) {
  dispatch_arena(parameters_.dtype(), [&]<class T>(TypeTag<T>) {
    std::vector<AdamWUpdate<T>> functors;
    for (const ArenaSegment& s : segments) {
      functors.push_back(functor_of<T>(options_, s, step_count(), statistics().data<double>()));
    }
    store_functors(functors, parameters_.device(), functors_);
  });
}

void AdamW::update(const std::vector<ArenaSegment>& segments) {
  dispatch_arena(parameters_.dtype(), [&]<class T>(TypeTag<T>) {
    const auto* functor = static_cast<const AdamWUpdate<T>*>(functors_.raw_data());
    for (const ArenaSegment& s : segments) {
      update_each(parameters_.device(), functor++, s.end - s.begin, parameters_.data<T>() + s.begin,
                  std::as_const(gradients_).data<T>() + s.begin, moments_[0].data<T>() + s.begin,
                  moments_[1].data<T>() + s.begin);
    }
  });
}

}  // namespace vitrine
