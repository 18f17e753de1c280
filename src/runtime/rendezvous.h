// The server side of the bootstrap: a thread that all ranks of the ids made in this process connect
// to. Strangers at its port cost it a little memory for five seconds, never a wait.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/config.h"
#include "base/handle.h"
#include "runtime/wire.h"

namespace slimccl::runtime {

class Rendezvous {
 public:
  // Listens on a free port of `ip` and starts the thread; throws Error if it cannot.
  explicit Rendezvous(const std::string& ip);
  ~Rendezvous();  // ends the thread, orderly
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  [[nodiscard]] ncclUniqueId make_id();  // any thread
  [[nodiscard]] const wire::Endpoint& endpoint() const noexcept { return endpoint_; }
  // A forked child has a copy of this object, but no thread.
  [[nodiscard]] bool alive_here() const noexcept;

 private:
  friend class RendezvousLoop;
  void wake() const noexcept;
  [[nodiscard]] std::vector<wire::Id> take_fresh_ids();

  pid_t process_;
  wire::Socket listener_;
  wire::Endpoint endpoint_;
  Fd wake_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<wire::Id> fresh_;  // made, not yet known to the thread; under mutex_
  uint64_t next_session_ = 1;    // under mutex_
  std::thread thread_;           // last: it uses all the others
};

// The process's own one, started at the first call.
[[nodiscard]] ncclUniqueId make_process_id(const Config& config);
// Is that the one at `endpoint`?
[[nodiscard]] bool process_hosts(const wire::Endpoint& endpoint) noexcept;

}  // namespace slimccl::runtime
