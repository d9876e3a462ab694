// Tells AddressSanitizer which bytes of a block no code may touch: without it, a block that waits in
// the cache, or the rest of a block that is larger than what was asked for, would look like good
// memory.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__) && !defined(__CUDACC__)  // the sanitizer knows nothing of a GPU's memory
#include <sanitizer/asan_interface.h>
#endif

namespace vitrine {

inline void forbid_access([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__) && !defined(__CUDACC__)
  ASAN_POISON_MEMORY_REGION(begin, bytes);
#endif
}

inline void allow_access([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__) && !defined(__CUDACC__)
  ASAN_UNPOISON_MEMORY_REGION(begin, bytes);
#endif
}

}  // namespace vitrine
