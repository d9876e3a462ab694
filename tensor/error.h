// The errors that the library throws, and VT_CHECK, which throws them with a message that says what would be accepted.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>

namespace vitrine {

/// Base of everything the library throws. `what()` is one line: the op or file, the offending value, what is accepted.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

/// Memory could not be had. Nothing was changed; a smaller request may well succeed.
class OutOfMemory : public Error {
 public:
  OutOfMemory(const std::string& message, std::size_t bytes_needed) : Error(message), bytes_needed_(bytes_needed) {}
  std::size_t bytes_needed() const { return bytes_needed_; }

 private:
  std::size_t bytes_needed_;
};

}  // namespace vitrine

/// Throws vitrine::Error with a fmt-formatted message unless the condition holds. The message is built only on failure.
#define VT_CHECK(condition, ...)                        \
  do {                                                  \
    if (!(condition)) [[unlikely]]                      \
      throw ::vitrine::Error(fmt::format(__VA_ARGS__)); \
  } while (false)
