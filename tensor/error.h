// The errors that the library throws, and VT_CHECK, which throws them with a message that says what
// would be accepted.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace vitrine {

/// Base of everything the library throws. `what()` is one line: the op or file, the offending
/// value, what is accepted.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

/// An allocation failed. Nothing was changed; a smaller request may succeed.
class OutOfMemory : public Error {
 public:
  OutOfMemory(const std::string& message, std::size_t bytes_needed)
      : Error(message), text_(message), bytes_needed_(bytes_needed) {}
  std::size_t bytes_needed() const { return bytes_needed_; }  // 0 where CUDA did not say

  /// The op that allocated, or "backward of" it; empty outside ops. The message begins with it.
  const std::string& op() const { return op_; }
  void set_op(std::string_view op) {
    op_ = op;
    text_ = fmt::format("{}: {}", op, Error::what());
  }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_, op_;
  std::size_t bytes_needed_;
};

/// body(), where the error of exhausted memory names `op`.
template <class Body>
decltype(auto) in_op(std::string_view op, Body&& body) {
  try {
    return body();
  } catch (OutOfMemory& error) {
    if (error.op().empty()) error.set_op(op);
    throw;
  }
}

}  // namespace vitrine

/// Throws vitrine::Error with a fmt-formatted message unless the condition holds. The message is
/// built only on failure.
#define VT_CHECK(condition, ...)                        \
  do {                                                  \
    if (!(condition)) [[unlikely]]                      \
      throw ::vitrine::Error(fmt::format(__VA_ARGS__)); \
  } while (false)
