// Where the tests find golden files and sources: the folder that was built from, or the one that
// the environment names.
#pragma once

#include <cstdlib>
#include <string>

namespace vitrine {

/// The root of the sources. scripts/gpu-check runs the tests on other machines, from a copy of what
/// they read.
inline std::string source_dir() {
  const char* elsewhere = std::getenv("VITRINE_SOURCE_DIR");
  return elsewhere ? elsewhere : VITRINE_SOURCE_DIR;
}

}  // namespace vitrine
