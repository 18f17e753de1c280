// The ranks that one thread calls for, and how it talks to the other threads and processes.
#pragma once

#include <vector>

#include "options.h"
#include "side_channel.h"
#include "slimccl/slimccl.h"

namespace slimccl::perf {

struct Member {
  int rank = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;  // null: calls wait
};

class Team {
 public:
  // Collective over all teams of the run. `place`: of this thread among all threads.
  Team(const Options& options, const Place& place);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  [[nodiscard]] const std::vector<Member>& members() const { return members_; }
  [[nodiscard]] SideChannel& channel() { return channel_; }
  [[nodiscard]] int ranks() const { return ranks_; }
  [[nodiscard]] bool leads() const { return members_.front().rank == 0; }
  // By rank: its node, called by its lowest rank.
  [[nodiscard]] const std::vector<int>& nodes() const { return node_of_; }

  // Waits for what was queued on the members' streams.
  void finish();
  // Collective.
  void destroy();

 private:
  SideChannel channel_;
  std::vector<Member> members_;
  int ranks_;
  std::vector<int> node_of_;
};

}  // namespace slimccl::perf
