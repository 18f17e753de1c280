// What the ranks of one process share: who watches them, and how they fail.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "slimccl/slimccl.h"

namespace soak {

struct Options {
  double seconds = 10, hang_s = 40;
  uint64_t seed = 1;
  int threads = 1, process = 0, processes = 1;  // ranks per process, this process, how many
  std::string folder;                           // where unique ids are left for others

  [[nodiscard]] int ranks() const { return threads * processes; }
};

// Polls every communicator's asynchronous error as a trainer's watchdog does, and ends the process
// with everybody's last call if a rank gets nowhere.
class Process {
 public:
  explicit Process(const Options& options);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const Options options;

  void watch(ncclComm_t comm);
  void forget(ncclComm_t comm);
  // What `thread` does from now on.
  void note(int thread, const std::string& call);
  [[noreturn]] void fail(int thread, const std::string& why);

  // Communicators that one thread makes for all of the process.
  void hand_over(int team, std::vector<ncclComm_t> comms);
  ncclComm_t take(int team, size_t index);

  // Other processes get the id of `team` from whoever made it.
  void publish(int team, const ncclUniqueId& id);
  ncclUniqueId await(int team);

 private:
  using Clock = std::chrono::steady_clock;
  struct Note {
    std::string call = "nothing yet";
    Clock::time_point since = Clock::now();
  };

  void loop();
  void look_at_errors();
  void look_at_clock();
  void forgive_standstill();  // with the lock held
  [[nodiscard]] std::string path(int team) const;
  [[nodiscard]] std::string last_call(int thread) const;
  void tell_calls(const char* what) const;  // of all threads, with the lock held

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<ncclComm_t> watched_;
  std::vector<Note> notes_;
  std::map<int, std::vector<ncclComm_t>> handed_;
  bool done_ = false, told_late_ = false;
  Clock::time_point last_look_ = Clock::now();
  std::thread watchdog_;
};

// One rank's way to all of it.
class Context {
 public:
  Context(Process& its_process, int its_thread)
      : process(its_process),
        thread(its_thread),
        rank(process.options.process * process.options.threads + thread) {}

  Process& process;
  const int thread, rank;

  void note(const std::string& call) { process.note(thread, call); }
  [[noreturn]] void fail(const std::string& why) { process.fail(thread, why); }
  // Waits for non-blocking communicators; ends the program if the call went wrong.
  void expect_done(ncclResult_t result, const std::vector<ncclComm_t>& comms);
};

}  // namespace soak
