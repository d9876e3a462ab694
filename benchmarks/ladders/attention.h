// The ladder of attention: y = softmax(q k^T / sqrt(D)) v for every head, without mask or bias, in
// bf16 with f32 sums. All of q, k, v and y are (B, H, N, D) with D = 64. Vaswani et al., "Attention
// is all you need" (2017), section 3.2.1.
#pragma once

#include "benchmarks/ladders/ladder.h"

namespace vitrine::ladders {

inline constexpr int head_size = 64;  // D

/// Largest N of the rung that keeps K and V of a whole head in shared memory; beyond it, an Error.
inline constexpr int most_keys = 256;

/// Size (B, H, N, D) with D = head_size. Inputs q, k, v; result y.
Ladder attention_ladder();

}  // namespace vitrine::ladders
