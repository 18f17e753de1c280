#include "runtime/wire_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/handle.h"

namespace slimccl::runtime::wire {
namespace {

// The descriptors that fork() must not hand on. Process-wide because fork() is; never destroyed
// because sockets may be closed while static objects are being destroyed.
struct OpenSockets {
  std::mutex mutex;
  std::set<int> fds;

  static OpenSockets& instance() {
    static OpenSockets& self = *new OpenSockets;
    return self;
  }

 private:
  OpenSockets() {
    pthread_atfork([] { instance().mutex.lock(); }, [] { instance().mutex.unlock(); },
                   [] { instance().drop_in_child(); });
  }

  // Only what is allowed in the child of a process with threads: system calls, and reading the set.
  void drop_in_child() {
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const int fd : fds) {
      if (null) {
        dup3(null.get(), fd, O_CLOEXEC);
      } else {
        close(fd);
      }
    }
    mutex.unlock();
  }
};

}  // namespace

Endpoint Endpoint::of(const std::string& ip, uint16_t port) {
  Endpoint result;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
  if (inet_pton(AF_INET, ip.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    result.bytes = sizeof(sockaddr_in);
  } else {
    result.storage = {};
    check(inet_pton(AF_INET6, ip.c_str(), &v6->sin6_addr) == 1, ncclInvalidArgument, "\"", ip,
          "\" is not an IP address");
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    result.bytes = sizeof(sockaddr_in6);
  }
  return result;
}

std::string Endpoint::ip() const {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  const void* address =
      v6() ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr)
           : &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr;
  if (inet_ntop(storage.ss_family, address, buffer.data(), buffer.size()) == nullptr) return "?";
  return buffer.data();
}

uint16_t Endpoint::port() const noexcept {
  return ntohs(v6() ? reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port
                    : reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
}

std::string Endpoint::text() const {
  return v6() ? concat("[", ip(), "]:", port()) : concat(ip(), ":", port());
}

Socket Socket::open(const std::function<int()>& make) {
  OpenSockets& all = OpenSockets::instance();
  const std::lock_guard lock(all.mutex);
  const int fd = make();
  if (fd >= 0) all.fds.insert(fd);
  return Socket(fd);
}

Socket::Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Socket::reset() noexcept {
  if (fd_ < 0) return;
  OpenSockets& all = OpenSockets::instance();
  const std::lock_guard lock(
      all.mutex);  // closed under it too: the number may be anybody's at once
  all.fds.erase(fd_);
  close(fd_);
  fd_ = -1;
}

void Socket::silence() noexcept {
  if (fd_ < 0) return;
  const Fd quiet(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (quiet) {
    dup3(quiet.get(), fd_, O_CLOEXEC);
  } else {
    shutdown(fd_, SHUT_RDWR);  // out of descriptors: at least the peer is told
  }
}

void tune(const Socket& socket) noexcept {
  const auto set = [&](int level, int option, int value) {
    (void)setsockopt(socket.get(), level, option, &value, sizeof value);  // a wish, not a need
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 16'000);  // keepalive rests while data is on its way
}

bool wait_for(int fd, short events, Clock::time_point deadline) noexcept {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd entry{fd, events, 0};
    const auto wait_ms = std::clamp<int64_t>(left.count(), 0, 60'000);
    const int ready = poll(&entry, 1, static_cast<int>(wait_ms));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR && errno != EAGAIN) return true;  // the next call says what
    if (Clock::now() >= deadline) return false;
  }
}

}  // namespace slimccl::runtime::wire
