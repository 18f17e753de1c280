// Ranks as forked processes, each with an environment of its own. The parent never touches the
// library, so that every child starts clean.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "slimccl/nccl.h"

namespace slimccl::testing {

using Environment = std::map<std::string, std::string>;

class Processes {
 public:
  // What a rank sees: its number, and how to get the unique id that rank 0 made.
  using Body = std::function<int(int rank, const ncclUniqueId& id)>;

  // Starts `ranks` children with environment_of(rank) on top of this one; body's result is the exit
  // code.
  Processes(int ranks, const std::function<Environment(int)>& environment_of, const Body& body) {
    int pipes[2];
    EXPECT_EQ(pipe(pipes), 0);
    for (int rank = 0; rank < ranks; ++rank) {
      const pid_t pid = fork();
      if (pid == 0) {
        for (const auto& [name, value] : environment_of(rank))
          setenv(name.c_str(), value.c_str(), 1);
        _exit(run_child(rank, ranks, pipes, body));
      }
      pids_.push_back(pid);
    }
    close(pipes[0]);
    close(pipes[1]);
  }
  ~Processes() {
    for (size_t rank = 0; rank < pids_.size(); ++rank) {
      if (pids_[rank] > 0) kill(pids_[rank], SIGKILL);
      if (pids_[rank] > 0) waitpid(pids_[rank], nullptr, 0);
    }
  }
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  void signal(int rank, int number) { kill(pids_[static_cast<size_t>(rank)], number); }

  // The exit code; -1 if it was ended by a signal, -2 if it did not end in time.
  int wait(int rank, double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    pid_t& pid = pids_[static_cast<size_t>(rank)];
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > end) return -2;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  static int run_child(int rank, int ranks, const int* pipes, const Body& body) {
    ncclUniqueId id{};
    if (rank == 0) {
      if (ncclGetUniqueId(&id) != ncclSuccess) return 90;
      for (int other = 1; other < ranks; ++other) {
        if (write(pipes[1], &id, sizeof id) != sizeof id) return 91;
      }
    } else if (read(pipes[0], &id, sizeof id) != sizeof id) {
      return 92;
    }
    return body(rank, id);
  }

  std::vector<pid_t> pids_;
};

}  // namespace slimccl::testing
