// The update of the moving average, written once for both devices.
#include "optim/average.h"

#include "optim/fused_update.h"

namespace vitrine {
namespace {

/// One element: average, source.
template <class T>
struct AverageUpdate {
  T decay, other;  // other = 1 - decay

  VT_HD bool begin() const { return true; }
  VT_HD void operator()(T& average, T source) const { average = decay * average + other * source; }
};

}  // namespace

ParameterAverage::ParameterAverage(std::vector<NamedParameter> source, std::vector<NamedParameter> target, double decay)
    : source_(std::move(source)), target_(std::move(target)), decay_(decay) {
  VT_CHECK(decay >= 0 && decay <= 1, "average: decay is {}, expected [0, 1]", decay);
  VT_CHECK(source_.size() == target_.size(),
           "average: {} parameters in the source and {} in the target, expected as many", source_.size(),
           target_.size());
  for (std::size_t i = 0; i < source_.size(); ++i) {
    const Tensor &from = source_[i].parameter->value(), &to = target_[i].parameter->value();
    VT_CHECK(source_[i].name == target_[i].name && from.shape() == to.shape(),
             "average: {} {} of the source meets {} {} of the target, expected the same", source_[i].name,
             to_string(from.shape()), target_[i].name, to_string(to.shape()));
    VT_CHECK(from.dtype() == to.dtype() && from.device() == to.device() &&
                 (from.dtype() == DType::f32 || from.dtype() == DType::f64),
             "average: {} is {} in the source and {} in the target, expected f32 or f64 on one device", source_[i].name,
             name_of(from.dtype()), name_of(to.dtype()));
    VT_CHECK(from.storage() != to.storage(), "average: {} has the same elements in source and target", source_[i].name);
  }
  if (!source_.empty()) store_functor();
}

void ParameterAverage::store_functor() {
  const Tensor& first = source_[0].parameter->value();
  dispatch_arena(first.dtype(), [&]<class T>(TypeTag<T>) {
    const std::vector<AverageUpdate<T>> functor{{static_cast<T>(decay_), static_cast<T>(1 - decay_)}};
    store_functors(functor, first.device(), functor_);
  });
}

void ParameterAverage::update() {
  for (std::size_t i = 0; i < source_.size(); ++i) {
    const Tensor& from = source_[i].parameter->value();
    Tensor& to = target_[i].parameter->value();
    dispatch_arena(from.dtype(), [&]<class T>(TypeTag<T>) {
      update_each(from.device(), static_cast<const AverageUpdate<T>*>(functor_.raw_data()), from.numel(), to.data<T>(),
                  from.data<T>());
    });
    to.storage()->bump_version();
  }
}

}  // namespace vitrine
