// Ranks as threads and as forked processes, for the tests of the bootstrap.
#pragma once

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "runtime/bootstrap.h"
#include "runtime/wire.h"

namespace slimccl::runtime::testing_support {

using Clock = std::chrono::steady_clock;
using Ranks = std::vector<std::unique_ptr<Bootstrap>>;

inline Config local_config() {
  Config config;
  config.address = "127.0.0.1";
  return config;
}

inline std::vector<std::byte> bytes_of(std::string_view text) {
  const auto raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What an Error says, with its code: "6: text"; "" if nothing was thrown.
inline std::string outcome(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return concat(static_cast<int>(error.code()), ": ", error.what());
  } catch (const std::exception& error) {
    return concat("not an Error: ", error.what());
  }
  return "";
}

// Runs body(rank) on a thread per rank, and returns what each said.
inline std::vector<std::string> on_threads(const std::vector<int>& ranks,
                                           const std::function<void(int)>& body) {
  std::vector<std::string> said(ranks.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < ranks.size(); ++i) {
    threads.emplace_back([&, i] { said[i] = outcome([&] { body(ranks[i]); }); });
  }
  for (std::thread& thread : threads) thread.join();
  return said;
}

inline std::vector<int> iota(int count) {
  std::vector<int> values;
  for (int i = 0; i < count; ++i) values.push_back(i);
  return values;
}

// All ranks joined, in this process.
inline Ranks join_all(const ncclUniqueId& id, int ranks, double timeout_s = 10) {
  Ranks joined(static_cast<size_t>(ranks));
  const auto said = on_threads(iota(ranks), [&](int rank) {
    joined[static_cast<size_t>(rank)] = Bootstrap::join(id, ranks, rank, timeout_s);
  });
  for (const std::string& text : said) {
    if (!text.empty()) throw std::runtime_error(text);
  }
  return joined;
}

// What check() says as soon as it says something; nothing if it does not in time.
inline std::optional<RankFailure> failure_within(Bootstrap& bootstrap, double seconds) {
  const auto start = Clock::now();
  while (true) {
    if (auto failure = bootstrap.check()) return failure;
    const double left = seconds - seconds_since(start);
    if (left <= 0) return std::nullopt;
    pollfd entry{bootstrap.wait_fd(), POLLIN, 0};
    poll(&entry, 1, static_cast<int>(left * 1000) + 1);
  }
}

// A forked process that runs body(say), where say() sends text to the parent; ends with _exit.
class Process {
 public:
  using Say = std::function<void(const std::string&)>;

  explicit Process(const std::function<void(const Say&)>& body) {
    std::array<int, 2> ends{};
    if (pipe(ends.data()) != 0) throw std::runtime_error("pipe");
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[0]);
      const Say say = [&](const std::string& text) {
        (void)!write(ends[1], text.data(), text.size());
      };
      alarm(60);
      try {
        body(say);
      } catch (const std::exception& error) {
        say(concat("threw ", error.what()));
      }
      _exit(0);
    }
    close(ends[1]);
    read_end_ = ends[0];
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    kill();
    (void)wait();
    close(read_end_);
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  void kill() const {
    if (!reaped_) ::kill(pid_, SIGKILL);
  }
  // The status that waitpid gives.
  int wait() {
    if (!reaped_) waitpid(pid_, &status_, 0);
    reaped_ = true;
    return status_;
  }
  // The next `bytes` that it says, or up to its end.
  [[nodiscard]] std::string hear(size_t bytes) const {
    std::string text(bytes, '\0');
    size_t have = 0;
    while (have < bytes) {
      const ssize_t got = read(read_end_, text.data() + have, bytes - have);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    text.resize(have);
    return text;
  }
  [[nodiscard]] std::string hear_all() const { return hear(1 << 16); }
  [[nodiscard]] ncclUniqueId hear_id() const {
    ncclUniqueId id{};
    const std::string text = hear(sizeof id);
    std::memcpy(&id, text.data(), text.size());
    return id;
  }

 private:
  pid_t pid_ = -1;
  int read_end_ = -1;
  int status_ = 0;
  bool reaped_ = false;
};

inline std::string id_text(const ncclUniqueId& id) { return {id.internal, sizeof id.internal}; }
inline std::string to_text(const std::optional<RankFailure>& failure) {
  return failure ? concat(failure->rank, ": ", failure->reason) : "nothing";
}

// A stranger's connection to the rendezvous of an id, having sent `text`.
inline int stranger(const ncclUniqueId& id, std::string_view text) {
  const wire::Id parsed = wire::parse_id(id);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, parsed.server.raw(), parsed.server.bytes) != 0) return -1;
  (void)!send(fd, text.data(), text.size(), MSG_NOSIGNAL);
  return fd;
}

// Has the other side closed the connection by then?
inline bool closed_within(int fd, double seconds) {
  pollfd entry{fd, POLLIN, 0};
  if (poll(&entry, 1, static_cast<int>(seconds * 1000)) <= 0) return false;
  char ignored;
  return recv(fd, &ignored, 1, MSG_DONTWAIT) <= 0;
}

}  // namespace slimccl::runtime::testing_support
