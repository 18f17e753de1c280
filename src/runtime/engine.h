// The one progress thread of the process: it owns every communicator's transports and moves all of
// them. Everything else enters by run() and wake(). The thread lives while somebody holds a lease,
// so a process without communicators has no thread of ours.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/handle.h"

namespace slimccl::runtime {

// What the engine moves. All calls come from the engine's thread.
class Participant {
 public:
  virtual ~Participant() = default;
  // Bounded work, never blocks; true if anything moved.
  virtual bool progress() noexcept = 0;
  // True if there is nothing to do until a wait fd is readable, wake() is called, or some
  // milliseconds have passed.
  virtual bool arm() noexcept = 0;
  virtual void add_wait_fds(std::vector<int>& fds) const = 0;
};

class Engine {
 public:
  // This process's. A forked child gets one of its own.
  static Engine& instance();

  // Keeps the thread alive. The first lease starts it, the last one's end stops and joins it; not
  // to be dropped on the engine's own thread.
  class Lease {
   public:
    Lease() : engine_(instance()) { engine_.acquire(); }
    ~Lease() { engine_.release(); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    [[nodiscard]] const Engine& engine() const noexcept { return engine_; }

   private:
    Engine& engine_;
  };

  // False in a forked child of the process that this engine was made in: its thread is not here.
  [[nodiscard]] bool alive_here() const noexcept;

  // Runs `work` on the engine's thread and waits for it; what it throws is thrown here.
  void run(const std::function<void()>& work);
  void add(std::shared_ptr<Participant> participant);
  void remove(const Participant*
                  participant);  // after it returns, the engine no longer touches the participant
  void wake() noexcept;

  // Names this process in set-up records: equal strings share an address space.
  [[nodiscard]] const std::string& process_name() const noexcept { return process_name_; }
  // How long an idle thread looks again before it sleeps: 0 where ranks exceed cores. Last caller
  // wins.
  void set_spins(int spins) noexcept { spins_ = spins; }

 private:
  Engine();
  void acquire();
  void release();
  void loop();
  bool take_commands();
  bool progress_all() noexcept;
  void sleep() noexcept;

  const pid_t process_;
  std::string process_name_;
  Fd wake_fd_;
  std::atomic<int> spins_{0};

  std::mutex lease_mutex_;
  int leases_ = 0;
  std::thread thread_;

  std::mutex command_mutex_;
  std::vector<std::function<void()>> commands_;
  std::atomic<bool> stop_{false};

  // Engine's thread only.
  std::vector<std::shared_ptr<Participant>> participants_;
  std::vector<int> wait_fds_;  // kept to save allocations, as is polls_
  std::vector<pollfd> polls_;
};

}  // namespace slimccl::runtime
