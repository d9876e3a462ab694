// The list of ladders.
#pragma once

#include <vector>

#include "benchmarks/ladders/ladder.h"

namespace vitrine::ladders {

/// layer_norm, layer_norm_backward, attention.
const std::vector<Ladder>& all_ladders();

}  // namespace vitrine::ladders
