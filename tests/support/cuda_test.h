// The base of all test fixtures that need a CUDA device, real or played.
#pragma once

#include <gtest/gtest.h>

#include "tensor/device/device.h"

namespace vitrine {

/// What a test says that is skipped for want of a device.
inline constexpr const char* why_skipped =
    "no GPU here: the kernels of this test did not run; the preset host-cuda runs them on the CPU";

class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  }
};

}  // namespace vitrine
