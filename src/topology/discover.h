// What this process can find out about where it runs: the only I/O of the topology part.
#pragma once

#include <hwloc.h>

#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/config.h"
#include "base/handle.h"

namespace slimccl::topology {

// Ranks with equal strings are on one node: they can share memory. SLIMCCL_NODE_ID, else
// NCCL_HOSTID, else the boot id with the device number of /dev/shm, which tells apart containers
// that do not see each other's memory.
[[nodiscard]] std::string node_identity(const Config& config);

// The IP address by which other nodes reach this process: SLIMCCL_ADDRESS (an IP or an interface),
// else the first interface that serves, else 127.0.0.1. Throws Error if SLIMCCL_ADDRESS names
// neither.
[[nodiscard]] std::string reachable_address(const Config& config);

// One address of one interface, and the choice among them as a pure function ("" if none serves).
struct InterfaceAddress {
  std::string interface, ip;
  bool up, loopback, v6, link_local;
};
[[nodiscard]] std::string choose_address(std::span<const InterfaceAddress> all,
                                         std::string_view wanted);

// The part of the machine that this process may use. Safe to use from any thread once made.
class Machine {
 public:
  // This machine, less what affinity and cgroups keep from this process.
  [[nodiscard]] static Machine discover();
  // For tests: an hwloc synthetic description ("pack:2 [numa] core:4 pu:1").
  [[nodiscard]] static Machine synthetic(const std::string& description);

  // Processors we may keep busy: those allowed, at most the cgroup's CPU quota rounded up.
  [[nodiscard]] int cores_allowed() const noexcept { return cores_allowed_; }
  // NUMA nodes with processors that we may use.
  [[nodiscard]] int numa_nodes() const noexcept;
  // The NUMA node (its place among those we may use) that a local rank falls on; -1: not ours to
  // choose, because there is one only, or because somebody bound the process to less than the
  // machine already.
  [[nodiscard]] int numa_node_for(int local_rank, int local_ranks) const noexcept;

  // Binds the calling thread to its rank's NUMA node, where numa_node_for() names one.
  void bind_thread_near(int local_rank, int local_ranks) const noexcept;
  // Asks for a buffer's pages on that NUMA node. A wish: a failure is logged (debug) and forgotten.
  void bind_memory_near(Bytes buffer, int local_rank, int local_ranks) const noexcept;

 private:
  using Handle_ = Handle<hwloc_topology_t, hwloc_topology_destroy>;
  explicit Machine(Handle_ topology) noexcept : topology_(std::move(topology)) {}

  Handle_ topology_;
  int cores_allowed_ = 1;
  bool bound_already_ = false;
};

// The CPU quota in a cgroup v2 cpu.max ("200000 100000", "max 100000") in processors rounded up; 0
// if there is none.
[[nodiscard]] int quota_cores(std::string_view cpu_max) noexcept;

}  // namespace slimccl::topology
