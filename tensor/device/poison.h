// Tells AddressSanitizer which bytes of a block must not be accessed: those of a block in the
// allocator's cache, and those beyond the requested size of a larger block. Without it they would
// look like valid memory.
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
