#include "fork_ranks.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "side_channel.h"

namespace slimccl::perf {
namespace {

void set(const char* name, int value) { ::setenv(name, std::to_string(value).c_str(), 1); }

int wait_all(const std::vector<pid_t>& children) {
  int worst = 0;
  for (size_t left = children.size(); left > 0; --left) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended < 0) break;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code == 0 || worst != 0) continue;
    worst = code;
    const auto rank = std::find(children.begin(), children.end(), ended) - children.begin();
    std::fprintf(stderr, "rank %td ended with code %d; ending the others\n", rank, code);
    for (const pid_t child : children) {
      if (child != ended) ::kill(child, SIGKILL);
    }
  }
  return worst;
}

}  // namespace

std::optional<int> fork_ranks(int ranks) {
  set("WORLD_SIZE", ranks);
  set("LOCAL_WORLD_SIZE", ranks);
  set("MASTER_PORT", free_port());
  ::setenv("MASTER_ADDR", "127.0.0.1", 1);
  const pid_t parent = ::getpid();
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) std::_Exit(1);
      set("RANK", rank);
      set("LOCAL_RANK", rank);
      return std::nullopt;
    }
    if (child < 0) {
      std::perror("fork");
      for (const pid_t other : children) ::kill(other, SIGKILL);
      return 3;
    }
    children.push_back(child);
  }
  return wait_all(children);
}

}  // namespace slimccl::perf
