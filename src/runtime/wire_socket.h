// TCP sockets of the bootstrap: owned, never passed to a forked child, and quick to notice a host
// that vanished.
#pragma once

#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace slimccl::runtime::wire {

using Clock = std::chrono::steady_clock;

// An IPv4 or IPv6 address with a port.
struct Endpoint {
  sockaddr_storage storage{};
  socklen_t bytes = 0;

  // `ip` as text; throws Error if it is none.
  [[nodiscard]] static Endpoint of(const std::string& ip, uint16_t port);
  [[nodiscard]] const sockaddr* raw() const noexcept {
    return reinterpret_cast<const sockaddr*>(&storage);
  }
  [[nodiscard]] sockaddr* raw() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  [[nodiscard]] bool v6() const noexcept { return storage.ss_family == AF_INET6; }
  [[nodiscard]] std::string ip() const;
  [[nodiscard]] uint16_t port() const noexcept;
  [[nodiscard]] std::string text() const;  // "10.0.0.1:4711", "[fd00::1]:4711"
  bool operator==(const Endpoint& other) const { return text() == other.text(); }
};

// Owns a descriptor. A forked child (a data loader's worker, say) gets /dev/null under the same
// number instead: else the connection of a process that died would stay open as long as its
// children live, and nobody would be told.
class Socket {
 public:
  Socket() = default;
  // `make` returns a new descriptor or -1 with errno; it runs while no fork can, so it must not
  // block.
  [[nodiscard]] static Socket open(const std::function<int()>& make);
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset() noexcept;
  // Closes the connection but keeps the number valid, as a descriptor that is never readable:
  // whoever waits on it need not be told.
  void silence() noexcept;

 private:
  explicit Socket(int fd) noexcept : fd_(fd) {}
  int fd_ = -1;
};

// No delay for small messages; a host that does not answer for 16 s counts as gone, idle or not.
void tune(const Socket& socket) noexcept;

// Waits until `fd` has one of `events` (poll's), or the deadline has passed: then false.
[[nodiscard]] bool wait_for(int fd, short events, Clock::time_point deadline) noexcept;

}  // namespace slimccl::runtime::wire
