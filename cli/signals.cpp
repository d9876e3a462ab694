// The handler only remembers the signal; everything else happens between two updates.
#include "cli/signals.h"

#include <csignal>

namespace vitrine {
namespace {

volatile std::sig_atomic_t received = 0;

extern "C" void remember_signal(int number) {
  received = number;
  if (number != SIGPIPE) std::signal(number, SIG_DFL);  // the second one is not caught
}

}  // namespace

void catch_signals() {
  std::signal(SIGINT, remember_signal);
  std::signal(SIGTERM, remember_signal);
  std::signal(SIGPIPE, remember_signal);
}

int received_signal() { return received; }

}  // namespace vitrine
