// What an ncclComm_t stands for. A handle is a number in disguise, never reused and never
// dereferenced: a destroyed or made-up one is an error with a text, not a crash. Any thread.
#pragma once

#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "api/reduction.h"
#include "runtime/communicator.h"
#include "runtime/staging/staged_work.h"

namespace slimccl::api {

// What a caller may ask of a new communicator.
struct Wishes {
  bool blocking = true;
  std::string name;
  int device = -1;    // what ncclCommCuDevice says
  bool cuda = false;  // `device` is a CUDA device, whose memory calls may name
};

class Comm {
 public:
  explicit Comm(Wishes wishes) : wishes_(std::move(wishes)), process_(getpid()) {}
  ~Comm();

  [[nodiscard]] const Wishes& wishes() const noexcept { return wishes_; }
  [[nodiscard]] Reductions& reductions() noexcept { return reductions_; }
  [[nodiscard]] bool made_here() const noexcept;  // not in a forked child

  // Throws Error while it is being made, and if that failed.
  [[nodiscard]] std::shared_ptr<runtime::Communicator> communicator() const;
  // Throws Error, and aborts it, if this was aborted meanwhile.
  void set_communicator(std::shared_ptr<runtime::Communicator> communicator);
  // What carries calls on CUDA memory; null: it takes host memory only. Set before the
  // communicator, by whoever makes that; to be asked for after communicator().
  [[nodiscard]] const std::shared_ptr<runtime::Staging>& staging() const noexcept {
    return staging_;
  }
  void set_staging(std::shared_ptr<runtime::Staging> staging) { staging_ = std::move(staging); }
  // ncclInProgress, ncclSuccess, or what is wrong and why.
  [[nodiscard]] ncclResult_t state(std::string& text) const;

  // Work of a non-blocking communicator that its owner will poll for; how it ends is told
  // elsewhere.
  void watch(std::shared_ptr<runtime::Completion> pending);
  // Runs `job` on a thread of its own, one at a time; state() tells how it ends, until the next.
  void run_aside(const std::function<void()>& job);
  // Orderly end; of one that could not be made: nothing to do.
  void destroy();
  // From any thread: gives up its making, or aborts the communicator.
  void abort();
  [[nodiscard]] const std::atomic<bool>& cancelled() const noexcept { return cancelled_; }

  // Buffers that were registered: only the handles are remembered.
  [[nodiscard]] void* add_registration();
  void remove_registration(void* registration);

 private:
  void join_aside();

  const Wishes wishes_;
  const pid_t process_;
  Reductions reductions_;
  std::atomic<bool> cancelled_{false};
  std::shared_ptr<runtime::Staging> staging_;
  mutable std::mutex mutex_;  // guards the rest
  std::shared_ptr<runtime::Communicator> communicator_;
  std::vector<std::shared_ptr<runtime::Completion>> pending_;
  std::shared_ptr<runtime::Completion> job_;  // of run_aside
  std::thread aside_;
  std::unordered_set<void*> registrations_;
  uintptr_t last_registration_ = 0;
};

[[nodiscard]] ncclComm_t add(std::shared_ptr<Comm> comm);
// Throws Error for a handle that names no living communicator of this process.
[[nodiscard]] std::shared_ptr<Comm> find(ncclComm_t handle);
[[nodiscard]] inline std::shared_ptr<runtime::Communicator> communicator_of(ncclComm_t handle) {
  return find(handle)->communicator();
}
// The handle names nothing from now on.
void forget(ncclComm_t handle) noexcept;

}  // namespace slimccl::api
