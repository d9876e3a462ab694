// The moving average: checks, and one pass over all parameters.
#include "optim/average.h"

namespace vitrine {
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
}

void ParameterAverage::update() {
  std::vector<Tensor> averages, latest;
  for (std::size_t i = 0; i < source_.size(); ++i) {
    averages.push_back(target_[i].parameter->value());
    latest.push_back(source_[i].parameter->value());
  }
  blend_all_into(averages, decay_, latest, 1 - decay_);
}

}  // namespace vitrine
