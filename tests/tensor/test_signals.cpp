// Signals that arrive in the middle of a product, as Ctrl-C and profilers send them.
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "ops/ops.h"

namespace vitrine {
namespace {

std::atomic<std::uintptr_t> stack_begin, stack_end;
std::atomic<int> signals_handled, handled_off_stack;

extern "C" void look_at_stack(int) {
  const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  ++signals_handled;
  if (frame < stack_begin || frame >= stack_end) ++handled_off_stack;
}

void remember_stack_of_this_thread() {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_getattr_np(pthread_self(), &attributes), 0);
  void* begin = nullptr;
  std::size_t size = 0;
  pthread_attr_getstack(&attributes, &begin, &size);
  pthread_attr_destroy(&attributes);
  stack_begin = reinterpret_cast<std::uintptr_t>(begin);
  stack_end = stack_begin + size;
}

/// Multiplies until a thousand signals have come; returns how many of them were handled elsewhere
/// than on this thread's stack.
int handlers_off_stack(const Tensor& a, const Tensor& b) {
  remember_stack_of_this_thread();
  signals_handled = handled_off_stack = 0;
  const auto before = std::signal(SIGUSR1, look_at_stack);
  const pthread_t worker = pthread_self();
  std::jthread sender([worker](std::stop_token stop) {
    while (!stop.stop_requested()) {
      pthread_kill(worker, SIGUSR1);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  while (signals_handled < 1000) matmul(a, b);
  sender.request_stop();
  sender.join();
  std::signal(SIGUSR1, before);
  return handled_off_stack;
}

// oneDNN computes in f32 with the stack pointer inside the heap; a handler that ran then would
// overwrite the heap with its frame.
TEST(Signals, HandlersRunOnTheStackOfTheThreadDuringProducts) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const Tensor x = ones({64, 512}, dtype), weight = ones({128, 512}, dtype);  // the second layer of an MLP
    const Tensor dy = ones({64, 128}, dtype);
    EXPECT_EQ(handlers_off_stack(x, transpose(weight)), 0) << "y of " << name_of(dtype);
    EXPECT_EQ(handlers_off_stack(dy, weight), 0) << "dx of " << name_of(dtype);
    EXPECT_EQ(handlers_off_stack(transpose(dy), x), 0) << "dweight of " << name_of(dtype);
  }
}

}  // namespace
}  // namespace vitrine
