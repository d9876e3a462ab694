// Times the rows of the op table on a GPU: data that no cache holds, events for the clock, results
// checked first.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/device/device.h"
#include "tensor/dtype.h"

namespace vitrine {

struct DeviceRowOptions {
  Device device = cuda();
  DType dtype = DType::f32;  // of the floating inputs: f32 or bf16
  std::string filter = ".";  // a regular expression for "op (sizes)"
  int repetitions = 30;
  bool backward = false;  // time forward and backward together; then no rate is given
};

/// Prints one line per row as it goes, and hands over what there is so far: the peak, and an array
/// of rows. Returns how many rows had wrong values or an error.
int time_rows_on_device(const DeviceRowOptions& options,
                        const std::function<void(const nlohmann::ordered_json& report)>& after_row);

}  // namespace vitrine
