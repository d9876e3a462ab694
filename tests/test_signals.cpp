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

// oneDNN computes with the stack pointer inside the heap; a handler that ran then would overwrite the heap with its frame.
TEST(Signals, HandlersRunOnTheStackOfTheThreadDuringProducts) {
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
  const Tensor x = ones({64, 512}), weight = ones({128, 512});  // the second layer of an MLP
  while (signals_handled < 1000) ASSERT_EQ(matmul(x, transpose(weight)).to_vector<float>()[0], 512);
  sender.request_stop();
  sender.join();
  std::signal(SIGUSR1, before);
  EXPECT_EQ(handled_off_stack, 0);
}

}  // namespace
}  // namespace vitrine
