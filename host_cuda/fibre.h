// A fibre: a stack of its own that runs until it gives way, and goes on from there. Boost.Context
// switches the stacks; this class tells ASan about it.
#pragma once

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <functional>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace host_cuda {

/// Tells ASan about a change of stacks: before it the bounds of the next stack; after it ASan tells
/// the bounds of the last one.
struct StackSwitch {
  void* fake_stack = nullptr;
  void leave(const void* next_bottom, std::size_t next_bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake_stack, next_bottom, next_bytes);
#else
    (void)next_bottom, (void)next_bytes;
#endif
  }
  void arrive(const void** last_bottom, std::size_t* last_bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, last_bottom, last_bytes);
#else
    (void)last_bottom, (void)last_bytes;
#endif
  }
};

class Fibre {
 public:
  /// `body` runs from the first resume() on and must never return.
  explicit Fibre(std::function<void()> body) : body_(std::move(body)) {
    boost::context::protected_fixedsize_stack allocator(stack_bytes);  // a guard page ends the program on overflow
    const boost::context::stack_context stack = allocator.allocate();
    size_ = stack.size;
    bottom_ = static_cast<const char*>(stack.sp) - stack.size;
    fibre_ =
        boost::context::fiber(std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack), allocator,
                              [this](boost::context::fiber&& caller) { return start(std::move(caller)); });
  }
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  /// Runs the fibre until it gives way.
  void resume() {
    StackSwitch change;
    change.leave(bottom_, size_);
    fibre_ = std::move(fibre_).resume();
    change.arrive(nullptr, nullptr);
  }

  /// Called inside the fibre: back to where resume() was called.
  void give_way() {
    StackSwitch change;
    change.leave(caller_bottom_, caller_size_);
    caller_ = std::move(caller_).resume();
    change.arrive(&caller_bottom_, &caller_size_);
  }

 private:
  static constexpr std::size_t stack_bytes = 256 * 1024;

  boost::context::fiber start(boost::context::fiber&& caller) {
    StackSwitch().arrive(&caller_bottom_, &caller_size_);
    caller_ = std::move(caller);
    body_();
    return std::move(caller_);
  }

  std::function<void()> body_;
  boost::context::fiber fibre_, caller_;
  const void *bottom_ = nullptr, *caller_bottom_ = nullptr;
  std::size_t size_ = 0, caller_size_ = 0;
};

}  // namespace host_cuda
