// Copies from ordinary memory to a GPU that do not make the host wait: through pinned buffers,
// which are used again.
#pragma once

#include <cstddef>

namespace vitrine {

/// Queues the copy on the current stream and returns as soon as the source has been read. Buffers
/// grow to the largest copy and to as many as are under way at a time; then nothing is allocated
/// any more.
void copy_to_device(void* target, const void* source, std::size_t bytes);

}  // namespace vitrine
