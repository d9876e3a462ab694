// SIGINT and SIGTERM become a request that the work asks for; a second SIGINT ends the program at
// once.
#pragma once

namespace vitrine {

void catch_signals();

/// The number of the signal that asked the program to stop, or 0.
int received_signal();

}  // namespace vitrine
