// Copies from ordinary memory to a GPU that do not make the host wait: through pinned buffers,
// which are used again.
#pragma once

#include <cstddef>

namespace vitrine {

/// Queues the copy on the current stream and returns as soon as the source has been read. The pool
/// keeps a few buffers; once they are as many and as large as the copies in flight need, it
/// allocates nothing.
void copy_to_device(void* target, const void* source, std::size_t bytes);

}  // namespace vitrine
