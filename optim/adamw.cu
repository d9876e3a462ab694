// The AdamW update, written once for both devices.
#include "optim/adamw.h"

#include <array>
#include <cmath>

#include "optim/fused_update.h"

namespace vitrine {

/// One element: p, g, m, v. All factors are prepared in double.
template <class T>
struct AdamWUpdate {
  static constexpr std::array moments{"first_moment", "second_moment"};

  T weight_decay_factor;  // 1 - lr weight_decay
  T beta1, beta2, one_minus_beta1, one_minus_beta2;
  T step_size;                      // lr / (1 - beta1^t)
  T inverse_sqrt_bias_correction2;  // 1 / sqrt(1 - beta2^t)
  T epsilon;

  static AdamWUpdate at(const AdamWOptions& options, const ArenaSegment& segment, std::int64_t step) {
    const auto t = static_cast<double>(step);
    const double bias_correction1 = 1 - std::pow(options.beta1, t), bias_correction2 = 1 - std::pow(options.beta2, t);
    return {.weight_decay_factor = static_cast<T>(1 - segment.learning_rate * segment.weight_decay),
            .beta1 = static_cast<T>(options.beta1),
            .beta2 = static_cast<T>(options.beta2),
            .one_minus_beta1 = static_cast<T>(1 - options.beta1),
            .one_minus_beta2 = static_cast<T>(1 - options.beta2),
            .step_size = static_cast<T>(segment.learning_rate / bias_correction1),
            .inverse_sqrt_bias_correction2 = static_cast<T>(1 / std::sqrt(bias_correction2)),
            .epsilon = static_cast<T>(options.epsilon)};
  }

  VT_HD void operator()(T& p, T g, T& m, T& v) const {
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * g * g;
    p = weight_decay_factor * p - step_size * m / (std::sqrt(v) * inverse_sqrt_bias_correction2 + epsilon);
  }
};

template class FusedUpdate<AdamWOptions, AdamWUpdate>;

void AdamWOptions::check() const {
  VT_CHECK(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, "adamw: betas are {} and {}, expected both in [0, 1)",
           beta1, beta2);
  VT_CHECK(epsilon >= 0, "adamw: epsilon is {}, expected 0 or more", epsilon);
}

}  // namespace vitrine
