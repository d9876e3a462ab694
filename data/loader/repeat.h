// Repeated augmentation: each image several times in a row, augmented anew each time, in an epoch that is no longer.
//
// Sources: Hoffer et al., "Augment your batch" (2020); the order is that of DeiT's RASampler. There the repeats go to
// different processes, and a single process leaves them out; here they stand in one batch, also on a single process.
#pragma once

#include <cstdint>
#include <vector>

namespace vitrine {

/// How many samples an epoch over `size` images has: with repeats the largest multiple of 256 up to size, or all of
/// them below 256, so that 1 / repeats of the images have their turn; else size.
std::int64_t samples_per_epoch(std::int64_t size, int repeats);

/// Each entry `repeats` times in a row, cut to samples_per_epoch.
std::vector<std::int64_t> repeated_order(const std::vector<std::int64_t>& order, int repeats);

}  // namespace vitrine
