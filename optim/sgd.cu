// The update of stochastic gradient descent with momentum, written once for both devices.
#include "optim/sgd.h"

#include <array>

#include "optim/fused_update.h"

namespace vitrine {

/// One element: p, g, m. The moment starts at 0, so that the first step gives m = g.
template <class T>
struct SgdUpdate {
  static constexpr std::array moments{"momentum"};

  T weight_decay, momentum, learning_rate;
  bool nesterov;

  static SgdUpdate at(const SgdOptions& options, const ArenaSegment& segment, std::int64_t /*step*/) {
    return {.weight_decay = static_cast<T>(segment.weight_decay),
            .momentum = static_cast<T>(options.momentum),
            .learning_rate = static_cast<T>(segment.learning_rate),
            .nesterov = options.nesterov};
  }

  VT_HD void operator()(T& p, T gradient, T& m) const {
    const T g = gradient + weight_decay * p;
    m = momentum * m + g;
    p -= learning_rate * (nesterov ? g + momentum * m : m);
  }
};

template class FusedUpdate<SgdOptions, SgdUpdate>;

void SgdOptions::check() const {
  VT_CHECK(momentum >= 0 && momentum < 1, "sgd: momentum is {}, expected [0, 1)", momentum);
}

}  // namespace vitrine
