// What a device does at its best, measured: the figures that a benchmark's share of the peak refers
// to.
#pragma once

#include "tensor/tensor.h"

namespace vitrine {

struct Peak {
  double flops = 0;  // a second: a large square product in that dtype
  double bytes = 0;  // a second: a copy too large for the caches, bytes read plus bytes written
};

/// On CUDA the product is bare cuBLAS's and the copy the driver's, so that no code of ours flatters
/// the share. On the CPU both are ours, with the threads that the ops use. f32 or bf16; the CPU's
/// product is always f32.
Peak measure_peak(Device device, DType dtype);

}  // namespace vitrine
