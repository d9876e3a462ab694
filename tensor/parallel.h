// parallel_for: fixed chunks of a range, run by a pool of threads. Chunk boundaries depend on the
// range and the grain alone, never on the number of threads; so a sum kept per chunk has the same
// bits on any machine.
#pragma once

#include <cstdint>
#include <functional>

namespace vitrine {

/// Threads that parallel_for uses, the calling one included. Default: the number of hardware
/// threads.
int num_threads();
void set_num_threads(int count);  // count >= 1

/// Number of chunks that parallel_for makes of `count` items.
constexpr std::int64_t chunk_count(std::int64_t count, std::int64_t grain) { return (count + grain - 1) / grain; }

/// Calls body(begin, end) for every chunk [i * grain, min((i + 1) * grain, count)), in any order
/// and on any thread, and returns when all are done. An exception in a body is rethrown here (the
/// first one). Nested calls run serially.
void parallel_for(std::int64_t count, std::int64_t grain,
                  const std::function<void(std::int64_t begin, std::int64_t end)>& body);

}  // namespace vitrine
