#include "side_channel.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace slimccl::perf {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("rendezvous: " + what); }

int number(const char* name, int fallback) {
  const char* text = std::getenv(name);
  if (text == nullptr) return fallback;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 0 || value > 65535) {
    fail(std::string(name) + "=\"" + text + "\" is not a number from 0 to 65535");
  }
  return static_cast<int>(value);
}

void set_timeout(int socket, int seconds) {
  const timeval limit{seconds, 0};
  const int on = 1;
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void write_all(int socket, const void* data, size_t bytes) {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::send(socket, at, bytes, MSG_NOSIGNAL);
    if (done <= 0) fail(std::string("a rank went away while it was sent to: ") + strerror(errno));
    at += done;
    bytes -= static_cast<size_t>(done);
  }
}

void read_all(int socket, void* data, size_t bytes) {
  auto* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::recv(socket, at, bytes, 0);
    if (done <= 0) {
      fail(done == 0 ? std::string("a rank went away")
                     : std::string("no answer: ") + strerror(errno));
    }
    at += done;
    bytes -= static_cast<size_t>(done);
  }
}

sockaddr_in resolve(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0 || found == nullptr) {
    fail("MASTER_ADDR=\"" + host + "\" has no IPv4 address");
  }
  sockaddr_in address{};
  std::memcpy(&address, found->ai_addr, sizeof address);
  freeaddrinfo(found);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

}  // namespace

Place place_from_environment() {
  Place place;
  if (std::getenv("WORLD_SIZE") == nullptr) return place;
  place.rank = number("RANK", -1);
  place.world = number("WORLD_SIZE", 1);
  place.local_rank = number("LOCAL_RANK", 0);
  place.port = number("MASTER_PORT", 29500);
  if (const char* address = std::getenv("MASTER_ADDR")) place.address = address;
  if (place.rank < 0 || place.rank >= place.world) {
    fail("RANK is missing or not below WORLD_SIZE=" + std::to_string(place.world));
  }
  return place;
}

int free_port() {
  const int probe = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool found = ::bind(probe, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     ::getsockname(probe, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  ::close(probe);
  if (!found) throw std::runtime_error("no free port on 127.0.0.1 for the ranks to meet at");
  return ntohs(address.sin_port);
}

SideChannel::SideChannel(const Place& place, int timeout_s) : place_(place) {
  if (place_.world == 1) return;
  if (place_.rank == 0) {
    serve(timeout_s);
  } else {
    join(timeout_s);
  }
}

SideChannel::~SideChannel() {
  for (const int socket : sockets_) {
    if (socket >= 0) ::close(socket);
  }
}

void SideChannel::serve(int timeout_s) {
  sockets_.assign(static_cast<size_t>(place_.world), -1);
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in address = resolve(place_.address, place_.port);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, place_.world) != 0) {
    fail("cannot listen at " + place_.address + ":" + std::to_string(place_.port) + ": " +
         strerror(errno));
  }
  const auto deadline = Clock::now() + std::chrono::seconds(timeout_s);
  for (int missing = place_.world - 1; missing > 0;) {
    pollfd waiting{listener, POLLIN, 0};
    if (Clock::now() > deadline) {
      fail(std::to_string(missing) + " of " + std::to_string(place_.world) + " ranks did not come");
    }
    if (::poll(&waiting, 1, 200) <= 0) continue;
    const int peer = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (peer < 0) continue;
    set_timeout(peer, timeout_s);
    int32_t rank = -1;
    read_all(peer, &rank, sizeof rank);
    if (rank <= 0 || rank >= place_.world || sockets_[static_cast<size_t>(rank)] >= 0) {
      ::close(peer);  // a stranger, or a rank started twice
      continue;
    }
    sockets_[static_cast<size_t>(rank)] = peer;
    --missing;
  }
  ::close(listener);
}

void SideChannel::join(int timeout_s) {
  const sockaddr_in address = resolve(place_.address, place_.port);
  const auto deadline = Clock::now() + std::chrono::seconds(timeout_s);
  for (;;) {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      set_timeout(socket, timeout_s);
      sockets_.push_back(socket);
      const int32_t rank = place_.rank;
      write_all(socket, &rank, sizeof rank);
      return;
    }
    ::close(socket);
    if (Clock::now() > deadline) {
      fail("rank 0 did not answer at " + place_.address + ":" + std::to_string(place_.port));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::vector<std::byte> SideChannel::gather_bytes(const void* mine, size_t bytes) {
  std::vector<std::byte> all(bytes * static_cast<size_t>(place_.world));
  if (place_.rank != 0) {
    write_all(sockets_.front(), mine, bytes);
    read_all(sockets_.front(), all.data(), all.size());
    return all;
  }
  std::memcpy(all.data(), mine, bytes);
  for (size_t peer = 1; peer < sockets_.size(); ++peer) {
    read_all(sockets_[peer], all.data() + peer * bytes, bytes);
  }
  for (size_t peer = 1; peer < sockets_.size(); ++peer) {
    write_all(sockets_[peer], all.data(), all.size());
  }
  return all;
}

void SideChannel::barrier() { (void)gather(char{0}); }

}  // namespace slimccl::perf
