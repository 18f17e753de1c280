// Runs one case out of place and in place: checks, then times. One rank's side of it; all ranks
// call together. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checks.h"
#include "options.h"
#include "side_channel.h"
#include "slimccl/slimccl.h"
#include "workload.h"

namespace slimccl::perf {

struct Placement {
  double time_us = 0;
  uint64_t wrong = 0;
  std::string why;  // of the lowest rank that complains
};

struct Row {
  Case test;
  Placement out_of_place, in_place;
  bool compressed = false;
  std::string codec;               // "q4s", "q8", "q4s+q8" or "exact"
  double bytes_between_nodes = 0;  // one call, all ranks, as the library counts
  double exact_bytes = 0;          // the same call, exact
  double wire_bytes = 0;           // one call, all nodes, as the interfaces count; 0: not asked
  Accuracy accuracy;               // of the checked out-of-place call, all ranks
};

class Runner {
 public:
  Runner(const Options& options, const Place& place, SideChannel& channel, ncclComm_t comm);
  [[nodiscard]] Row run(const Case& test);
  // Seconds by rank 0's clock are not needed: each node's label, equal on one node.
  [[nodiscard]] const std::vector<int>& nodes() const { return node_of_; }

 private:
  struct Buffers;
  struct Meter {
    slimcclStats_t stats;
    uint64_t wire;
  };
  [[nodiscard]] Placement place(Row& row, const Inputs& inputs, bool in_place);
  [[nodiscard]] Placement check(Row& row, const Inputs& inputs, const Buffers& buffers,
                                bool in_place);
  [[nodiscard]] double time(const Row& row, const Buffers& buffers, ncclRedOp_t op, bool in_place);
  [[nodiscard]] Meter read_meter();
  void settle_codec(Row& row);

  const Options& options_;
  Place place_;
  SideChannel& channel_;
  ncclComm_t comm_;
  std::vector<int> node_of_;
  bool counts_wire_;
};

}  // namespace slimccl::perf
