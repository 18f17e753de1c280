#include "runtime/bootstrap_connect.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace slimccl::runtime {
namespace {

using wire::Clock;
using wire::Endpoint;
using wire::Socket;
using namespace std::chrono_literals;

constexpr auto kRefusedFor = 3s;
constexpr auto kAttempt = 10s;  // then a fresh SYN: the kernel's own pauses grow too long
constexpr auto kPause = 100ms;
constexpr auto kLook = 10ms;  // how often a wait asks whether it is still wanted

// A port that nobody listens on may be picked as our own end: TCP then connects the socket with
// itself.
bool is_itself(const Socket& socket) {
  Endpoint mine;
  Endpoint theirs;
  mine.bytes = theirs.bytes = sizeof mine.storage;
  return getsockname(socket.get(), mine.raw(), &mine.bytes) == 0 &&
         getpeername(socket.get(), theirs.raw(), &theirs.bytes) == 0 && mine == theirs;
}

// Returns 0 or the errno of this attempt.
int attempt(const Endpoint& server, Clock::time_point deadline, const Cancel& cancel,
            Socket& into) {
  into = Socket::open([&] {
    return socket(server.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  });
  check(static_cast<bool>(into), ncclSystemError, "cannot make a socket: ", std::strerror(errno),
        "; is `ulimit -n` too low?");
  if (connect(into.get(), server.raw(), server.bytes) != 0) {
    if (errno != EINPROGRESS && errno != EINTR) return errno;
    if (!cancel.wait_for(into.get(), POLLOUT, deadline)) return ETIMEDOUT;
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(into.get(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) return errno;
    if (error != 0) return error;
  }
  return is_itself(into) ? ECONNREFUSED : 0;
}

}  // namespace

void Cancel::give_up() {
  throw Error(ncclInvalidUsage,
              "this communicator was aborted by ncclCommAbort while it was being set up");
}

bool Cancel::wait_for(int fd, short events, Clock::time_point deadline) const noexcept {
  if (flag_ == nullptr) return wire::wait_for(fd, events, deadline);
  while (true) {
    if (wire::wait_for(fd, events, std::min(deadline, Clock::now() + kLook))) return true;
    if (wished() || Clock::now() >= deadline) return false;
  }
}

Socket connect_to(const Endpoint& server, Clock::time_point deadline, double timeout_s,
                  const Cancel& cancel) {
  auto refused_since = Clock::now();
  while (true) {
    Socket socket;
    const int error = attempt(server, std::min(deadline, Clock::now() + kAttempt), cancel, socket);
    if (error == 0) {
      wire::tune(socket);
      return socket;
    }
    if (cancel.wished()) Cancel::give_up();
    const auto now = Clock::now();
    if (error != ECONNREFUSED) refused_since = now;
    check(now - refused_since < kRefusedFor, ncclSystemError, "nobody listens at ", server.text(),
          " (connection refused): has the process that made ",
          "the unique id ended, or is that another machine's address? SLIMCCL_ADDRESS there ",
          "chooses the address that the id names");
    check(now + kPause < deadline, ncclSystemError, "cannot reach the rendezvous at ",
          server.text(), " within ", timeout_s, " s (", std::strerror(error),
          "): is there a route and no firewall between, and is that address right? ",
          "SLIMCCL_ADDRESS in the process that makes the unique id chooses it");
    (void)cancel.wait_for(-1, 0, now + kPause);
  }
}

}  // namespace slimccl::runtime
