#include "topology/discover.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"

namespace slimccl::topology {
namespace {

using Bitmap = Handle<hwloc_bitmap_t, hwloc_bitmap_free>;

// "" if there is no such file.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The tightest CPU quota among this process's cgroup (v2) and its parents, in processors; 0 if
// none.
int cgroup_quota_cores() {
  std::ifstream membership("/proc/self/cgroup");
  std::string line;
  int tightest = 0;
  while (std::getline(membership, line)) {
    if (!line.starts_with("0::")) continue;  // the others are of version 1
    for (std::string path = line.substr(3);; path.resize(path.find_last_of('/'))) {
      const int cores = quota_cores(first_line(concat("/sys/fs/cgroup", path, "/cpu.max")));
      if (cores > 0 && (tightest == 0 || cores < tightest)) tightest = cores;
      if (path.find('/') == path.npos) break;
    }
  }
  return tightest;
}

// A thread or buffer that we may not move is no failure: it works, only from afar.
void say_refused(const char* what) noexcept {
  log::debug("cannot bind ", what, " to a NUMA node: ", std::strerror(errno));
}

}  // namespace

int quota_cores(std::string_view cpu_max) noexcept {
  uint64_t quota = 0;
  uint64_t period = 0;
  const char* end = cpu_max.data() + cpu_max.size();
  const auto [space, no_quota] = std::from_chars(cpu_max.data(), end, quota);
  if (no_quota != std::errc{} || space == end) return 0;  // "max", or no such file
  const auto [stop, no_period] = std::from_chars(space + 1, end, period);
  if (no_period != std::errc{} || period == 0) return 0;
  return static_cast<int>(std::clamp<uint64_t>(ceil_div(quota, period), 1, 1 << 20));
}

Machine::Machine() {
  hwloc_topology_t raw = nullptr;
  check(hwloc_topology_init(&raw) == 0, ncclSystemError,
        "hwloc cannot make a topology: ", std::strerror(errno));
  topology_.reset(raw);
}

// hwloc leaves out what the cpuset cgroup forbids, unless told otherwise; affinity it does not look
// at.
Machine Machine::discover() {
  Machine machine;
  hwloc_topology_t topology = machine.topology_.get();
  check(hwloc_topology_load(topology) == 0, ncclSystemError,
        "hwloc cannot read this machine's topology: ", std::strerror(errno));
  const Bitmap mine(hwloc_bitmap_alloc());
  check(mine != nullptr, ncclSystemError, "out of memory");
  if (hwloc_get_cpubind(topology, mine.get(), HWLOC_CPUBIND_PROCESS) != 0) {
    hwloc_bitmap_copy(mine.get(), hwloc_topology_get_allowed_cpuset(topology));
  }
  machine.measure(mine.get(), cgroup_quota_cores());
  return machine;
}

Machine Machine::synthetic(const std::string& description, std::span<const int> bound_to,
                           int quota) {
  Machine machine;
  hwloc_topology_t topology = machine.topology_.get();
  check(hwloc_topology_set_synthetic(topology, description.c_str()) == 0 &&
            hwloc_topology_load(topology) == 0,
        ncclInvalidArgument, "hwloc does not understand the machine \"", description, "\"");
  const Bitmap mine(hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(topology)));
  check(mine != nullptr, ncclSystemError, "out of memory");
  if (!bound_to.empty()) hwloc_bitmap_zero(mine.get());
  for (const int processor : bound_to) {
    hwloc_bitmap_set(mine.get(), static_cast<unsigned>(processor));
  }
  machine.measure(mine.get(), quota);
  return machine;
}

// Cores, not hyperthreads: a second thread on a core adds little to what we do, which is bound by
// memory.
void Machine::measure(hwloc_const_bitmap_t mine, int quota) {
  hwloc_topology_t topology = topology_.get();
  int cores = 0;
  for (hwloc_obj_t core = nullptr;
       (core = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_CORE, core)) != nullptr;) {
    if (hwloc_bitmap_intersects(core->cpuset, mine) != 0) ++cores;
  }
  if (cores == 0) cores = hwloc_bitmap_weight(mine);  // some virtual machines show no cores
  cores_allowed_ = std::max(1, quota > 0 ? std::min(cores, quota) : cores);
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    // Memory without processors (HBM, CXL) is nobody's neighbourhood.
    if (hwloc_bitmap_iszero(node->cpuset) != 0) continue;
    ++numa_nodes_;
    if (hwloc_bitmap_isincluded(node->cpuset, mine) != 0) nodes_.push_back(node);
  }
}

int Machine::numa_node_for(int local_rank, int local_ranks) const noexcept {
  // Not the whole machine: somebody chose for us, and knew more.
  if (numa_nodes_ < 2 || static_cast<int>(nodes_.size()) < numa_nodes_) return -1;
  if (local_rank < 0 || local_rank >= local_ranks) return -1;
  return static_cast<int>(int64_t{local_rank} * numa_nodes_ / local_ranks);
}

void Machine::bind_thread_near(int local_rank, int local_ranks) const noexcept {
  const int index = numa_node_for(local_rank, local_ranks);
  if (index < 0) return;
  const hwloc_obj_t node = nodes_[static_cast<size_t>(index)];
  if (hwloc_set_cpubind(topology_.get(), node->cpuset, HWLOC_CPUBIND_THREAD) != 0) {
    say_refused("a thread");
  }
}

}  // namespace slimccl::topology
