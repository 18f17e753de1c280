// The client's way to the rendezvous, and how its waits end early.
#pragma once

#include <atomic>

#include "runtime/wire_socket.h"

namespace slimccl::runtime {

// Another thread's wish that this one stop waiting; without a flag there is none, ever.
class Cancel {
 public:
  explicit Cancel(const std::atomic<bool>* flag) noexcept : flag_(flag) {}

  [[nodiscard]] bool wished() const noexcept { return flag_ != nullptr && *flag_; }
  [[noreturn]] static void give_up();  // throws the Error of one who had wished
  // As wire::wait_for, but false soon after the wish, too. `fd` -1: waits for time alone.
  [[nodiscard]] bool wait_for(int fd, short events,
                              wire::Clock::time_point deadline) const noexcept;

 private:
  const std::atomic<bool>* flag_;
};

// A connected, non-blocking socket. Tries until the deadline, for a route may be on its way up; but
// gives up on a port that refuses for three seconds, for the listener was there before the id was.
// Throws Error (ncclSystemError) with the address and what to check; `timeout_s` is for that text.
// Gives up when that is wished, but not without having tried once.
[[nodiscard]] wire::Socket connect_to(const wire::Endpoint& server,
                                      wire::Clock::time_point deadline, double timeout_s,
                                      const Cancel& cancel);

}  // namespace slimccl::runtime
