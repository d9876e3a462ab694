// SIGINT, SIGTERM and SIGPIPE (standard output was closed: `vitrine train | head`) set a
// flag that the training loop reads; a second SIGINT ends the program at once.
#pragma once

namespace vitrine {

void catch_signals();

/// The number of the signal that asked the program to stop, or 0.
int received_signal();

}  // namespace vitrine
