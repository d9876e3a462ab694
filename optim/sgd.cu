// The update of stochastic gradient descent with momentum, written once for both devices.
#include "optim/sgd.h"

#include "optim/fused_update.h"

namespace vitrine {
namespace {

/// One element: p, g, m. The moment starts at 0, so that the first step gives m = g.
template <class T>
struct SgdUpdate {
  const double* statistics;  // of the gradient, see squared_norm.h
  T gradient_scale, weight_decay, momentum, learning_rate;
  bool nesterov;

  VT_HD bool begin() { return is_good_gradient(statistics, gradient_scale); }
  VT_HD void operator()(T& p, T gradient, T& m) const {
    const T g = gradient * gradient_scale + weight_decay * p;
    m = momentum * m + g;
    p -= learning_rate * (nesterov ? g + momentum * m : m);
  }
};

}  // namespace

Sgd::Sgd(std::vector<ParameterGroup> groups, SgdOptions options)
    : Optimizer("sgd", std::move(groups), options.learning_rate, {"momentum"}), options_(options) {
  VT_CHECK(options.momentum >= 0 && options.momentum < 1, "sgd: momentum is {}, expected [0, 1)", options.momentum);
}

void Sgd::prepare(const std::vector<ArenaSegment>& segments) {
  dispatch_arena(parameters_.dtype(), [&]<class T>(TypeTag<T>) {
    std::vector<SgdUpdate<T>> functors;
    for (const ArenaSegment& s : segments) {
      functors.push_back({.statistics = statistics().data<double>(),
                          .gradient_scale = 1,
                          .weight_decay = static_cast<T>(s.weight_decay),
                          .momentum = static_cast<T>(options_.momentum),
                          .learning_rate = static_cast<T>(s.learning_rate),
                          .nesterov = options_.nesterov});
    }
    store_functors(functors, parameters_.device(), functors_);
  });
}

void Sgd::update(const std::vector<ArenaSegment>& segments) {
  dispatch_arena(parameters_.dtype(), [&]<class T>(TypeTag<T>) {
    const auto* functor = static_cast<const SgdUpdate<T>*>(functors_.raw_data());
    for (const ArenaSegment& s : segments) {
      update_each(parameters_.device(), functor++, s.end - s.begin, parameters_.data<T>() + s.begin,
                  std::as_const(gradients_).data<T>() + s.begin, moments_[0].data<T>() + s.begin);
    }
  });
}

}  // namespace vitrine
