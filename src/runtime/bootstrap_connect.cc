#include "runtime/bootstrap_connect.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

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
int attempt(const Endpoint& server, Clock::time_point deadline, Socket& into) {
  into = Socket::open([&] {
    return socket(server.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  });
  check(static_cast<bool>(into), ncclSystemError, "cannot make a socket: ", std::strerror(errno),
        "; is `ulimit -n` too low?");
  if (connect(into.get(), server.raw(), server.bytes) != 0) {
    if (errno != EINPROGRESS && errno != EINTR) return errno;
    if (!wire::wait_for(into.get(), POLLOUT, deadline)) return ETIMEDOUT;
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(into.get(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) return errno;
    if (error != 0) return error;
  }
  return is_itself(into) ? ECONNREFUSED : 0;
}

}  // namespace

Socket connect_to(const Endpoint& server, Clock::time_point deadline, double timeout_s) {
  auto refused_since = Clock::now();
  while (true) {
    Socket socket;
    const int error = attempt(server, std::min(deadline, Clock::now() + kAttempt), socket);
    if (error == 0) {
      wire::tune(socket);
      return socket;
    }
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
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace slimccl::runtime
