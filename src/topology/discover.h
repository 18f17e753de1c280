// The part of the machine that this process may use, as hwloc sees it.
#pragma once

#include <hwloc.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/handle.h"

namespace slimccl::topology {

// The part of the machine that this process may use. Any thread may use it once it is made.
class Machine {
 public:
  // This machine, less what affinity and cgroups keep from this process.
  [[nodiscard]] static Machine discover();
  // For tests: from an hwloc synthetic description ("pack:2 [numa] core:4 pu:1"), as seen by a
  // process bound to these processors (none: all) with a quota of so many (0: none). Binding on it
  // does nothing.
  [[nodiscard]] static Machine synthetic(const std::string& description,
                                         std::span<const int> bound_to = {}, int quota = 0);

  // Cores that we may keep busy: those allowed, at most the cgroup's CPU quota rounded up; never 0.
  [[nodiscard]] int cores_allowed() const noexcept { return cores_allowed_; }
  // NUMA nodes of the machine (of our cpuset cgroup) that have processors.
  [[nodiscard]] int numa_nodes() const noexcept { return numa_nodes_; }
  // The NUMA node, 0 to numa_nodes() - 1, that a local rank falls on when they are split evenly;
  // -1: not ours to choose, because there is only one, or because the process is bound to less than
  // all already.
  [[nodiscard]] int numa_node_for(int local_rank, int local_ranks) const noexcept;

  // Binds the calling thread to its rank's NUMA node, where numa_node_for() names one. Memory that
  // the thread touches first then lies there too.
  void bind_thread_near(int local_rank, int local_ranks) const noexcept;

 private:
  Machine();
  // `mine`: processors this process may run on.
  void measure(hwloc_const_bitmap_t mine, int quota);

  Handle<hwloc_topology_t, hwloc_topology_destroy> topology_;
  std::vector<hwloc_obj_t> nodes_;  // those wholly ours; owned by topology_
  int numa_nodes_ = 0;
  int cores_allowed_ = 1;
};

// The CPU quota in a cgroup v2 cpu.max ("200000 100000", "max 100000") in processors rounded up; 0
// if there is none.
[[nodiscard]] int quota_cores(std::string_view cpu_max) noexcept;

}  // namespace slimccl::topology
