// The client's way to the rendezvous.
#pragma once

#include "runtime/wire_socket.h"

namespace slimccl::runtime {

// A connected, non-blocking socket. Tries until the deadline, for a route may be on its way up; but
// gives up on a port that refuses for three seconds, for the listener was there before the id was.
// Throws Error (ncclSystemError) with the address and what to check; `timeout_s` is for that text.
[[nodiscard]] wire::Socket connect_to(const wire::Endpoint& server,
                                      wire::Clock::time_point deadline, double timeout_s);

}  // namespace slimccl::runtime
