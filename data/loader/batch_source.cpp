// Choosing between the tensor of a BatchPlace and a new one.
#include "data/loader/batch_source.h"

namespace vitrine {

Tensor placed(const Tensor& place, const Shape& shape, DType dtype, Device device) {
  const bool fits = place.defined() && place.shape() == shape && place.dtype() == dtype && place.device() == device &&
                    place.is_contiguous();
  return fits ? place : empty(shape, dtype, device);
}

}  // namespace vitrine
