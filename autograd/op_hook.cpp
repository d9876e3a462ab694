// The hooks of a thread, innermost first.
#include "autograd/op_hook.h"

#include <utility>

namespace vitrine {
namespace {

thread_local OpHook* current_hook = nullptr;

/// No hook on this thread for as long as it lives.
class PauseHook {
 public:
  PauseHook() : paused_(std::exchange(current_hook, nullptr)) {}
  ~PauseHook() { current_hook = paused_; }
  PauseHook(const PauseHook&) = delete;
  PauseHook& operator=(const PauseHook&) = delete;

 private:
  OpHook* paused_;
};

}  // namespace

OpHook::OpHook(std::function<void(const OpResult&)> see)
    : see_(std::move(see)), outer_(std::exchange(current_hook, this)) {}
OpHook::~OpHook() { current_hook = outer_; }

bool OpHook::is_alive() { return current_hook != nullptr; }

void OpHook::show(const OpResult& result) {
  const OpHook* hook = current_hook;
  if (!hook) return;
  const PauseHook no_hook;
  hook->see_(result);
}

}  // namespace vitrine
