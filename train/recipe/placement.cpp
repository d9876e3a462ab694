// The device by its name.
#include "train/recipe/placement.h"

#include "tensor/device/host_device.h"
#include "train/recipe/recipe.h"

namespace vitrine {

Device open_device(const std::string& name) {
  const Device device = device_from_name(name);
  VT_CHECK(device.is_cpu() || VT_CUDA, "--device: is '{}', expected cpu: this build has no CUDA (cmake --preset cuda)",
           name);
  VT_CHECK(device.is_cpu() || device.index < cuda_device_count(),
           "--device: is '{}', expected cpu: this machine has {} CUDA devices", name, cuda_device_count());
  return device;
}

Placement open_placement(const Recipe& recipe) {
  return {open_device(recipe.device), recipe.amp ? DType::bf16 : DType::f32};
}

}  // namespace vitrine
