// The Lion update, written once for both devices.
#include "optim/lion.h"

#include <array>

#include "optim/fused_update.h"

namespace vitrine {

/// One element: p, g, m. All factors are prepared in double.
template <class T>
struct LionUpdate {
  static constexpr std::array moments{"momentum"};

  T weight_decay_factor;  // 1 - lr weight_decay
  T learning_rate, beta1, beta2, one_minus_beta1, one_minus_beta2;

  static LionUpdate at(const LionOptions& options, const ArenaSegment& segment, std::int64_t /*step*/) {
    return {.weight_decay_factor = static_cast<T>(1 - segment.learning_rate * segment.weight_decay),
            .learning_rate = static_cast<T>(segment.learning_rate),
            .beta1 = static_cast<T>(options.beta1),
            .beta2 = static_cast<T>(options.beta2),
            .one_minus_beta1 = static_cast<T>(1 - options.beta1),
            .one_minus_beta2 = static_cast<T>(1 - options.beta2)};
  }

  VT_HD void operator()(T& p, T g, T& m) const {
    const T direction = beta1 * m + one_minus_beta1 * g;
    const T sign = static_cast<T>((direction > 0) - (direction < 0));
    p = weight_decay_factor * p - learning_rate * sign;
    m = beta2 * m + one_minus_beta2 * g;
  }
};

template class FusedUpdate<LionOptions, LionUpdate>;

void LionOptions::check() const {
  VT_CHECK(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, "lion: betas are {} and {}, expected both in [0, 1)",
           beta1, beta2);
}

}  // namespace vitrine
