// Elementary functions for functors: branch-free on float, so that loops over them vectorise; the C library on double.
#pragma once

#include <cmath>

#include "tensor/host_device.h"

namespace vitrine::math {

VT_HD inline float pow(float x, float y) {
  return static_cast<float>(std::pow(static_cast<double>(x), static_cast<double>(y)));
}
VT_HD inline double pow(double x, double y) { return std::pow(x, y); }

}  // namespace vitrine::math
