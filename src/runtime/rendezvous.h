// The server side of the bootstrap: a thread that all ranks of the ids made in this process connect
// to. Strangers at its port cost it a little memory for five seconds, never a wait.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/config.h"
#include "base/handle.h"
#include "runtime/wire.h"

namespace slimccl::runtime {

struct Hello;

struct Holdings {
  size_t ids, meetings;
};

class Rendezvous {
 public:
  // Listens on a free port of `ip` and starts the thread; throws Error if it cannot.
  explicit Rendezvous(const std::string& ip);
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  // Ends the thread, orderly; nobody is served any more.
  void stop() noexcept;

  // Any thread.
  [[nodiscard]] ncclUniqueId make_id(wire::Id::Kind kind);
  void withdraw(const wire::Id& id);
  // For tests: what ids and meetings it knows now.
  [[nodiscard]] Holdings holdings() const;
  [[nodiscard]] const wire::Endpoint& endpoint() const noexcept { return endpoint_; }
  // A forked child has a copy of this object, but no thread.
  [[nodiscard]] bool alive_here() const noexcept;

 private:
  friend class RendezvousLoop;
  void wake() const noexcept;
  // For the loop: may this caller join, is that id still known, it has served.
  [[nodiscard]] bool recognises(const Hello& hello) const;
  [[nodiscard]] bool knows(uint64_t number) const;
  void forget(uint64_t number);

  struct Known {
    wire::Secret secret;
    bool family;
  };

  pid_t process_;
  wire::Socket listener_;
  wire::Endpoint endpoint_;
  Fd wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<size_t> meetings_{0};  // as of the end of the thread's last pass
  mutable std::mutex mutex_;
  std::map<uint64_t, Known> known_;  // by number; under mutex_
  uint64_t next_number_ = 1;         // under mutex_
  std::thread thread_;               // last: it uses all the others
};

// The process's own one, started at the first call.
[[nodiscard]] ncclUniqueId make_process_id(const Config& config, wire::Id::Kind kind);
// No effect if that one did not make it.
void withdraw_process_id(const wire::Id& id);
[[nodiscard]] Holdings process_holdings();
// Is that the one at `endpoint`?
[[nodiscard]] bool process_hosts(const wire::Endpoint& endpoint) noexcept;

}  // namespace slimccl::runtime
