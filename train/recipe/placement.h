// Placement: the device that a run computes on, and the dtype of its activations.
#pragma once

#include <string>

#include "tensor/tensor.h"

namespace vitrine {

struct Recipe;

/// Where a model runs, and the dtype of its images and activations: f32, or bf16 for mixed
/// precision. Weights, gradients and the optimiser's state are f32 in both.
struct Placement {
  Device device = cpu;
  DType dtype = DType::f32;

  /// The images on that device in that dtype.
  Tensor place(const Tensor& images) const { return cast_data(to_device(images, device), dtype); }
};

/// The device called "cpu", "cuda" or "cuda:1"; an Error where this build or this machine has none.
Device open_device(const std::string& name);

/// The recipe's device, with bf16 activations where the recipe has amp.
Placement open_placement(const Recipe& recipe);

}  // namespace vitrine
