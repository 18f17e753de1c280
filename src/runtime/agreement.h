// What ranks tell each other before a communicator exists, and what follows from it for all alike.
// Pure.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/config.h"
#include "collectives/select.h"
#include "topology/topology.h"

namespace slimccl::runtime {

// One rank's word: who and where it is, and its settings.
struct Record {
  std::string version;      // of the library: all must be equal
  std::string node;         // identity of the node: equal strings share a node
  std::string host;         // for messages to people
  std::string process;      // unique per process: equal strings share an address space
  std::string ucx_version;  // two UCX versions in one job do not mix
  uint64_t pid = 0;
  std::string error;  // non-empty: why this rank cannot take part
  std::string profile, overrides;
  uint64_t floor_elems = 0, segment_elems = 0, window = 0;
  double net_gbits = 0;
  uint64_t checks = 0;      // SLIMCCL_CHECK
  int64_t device = -1;      // the CUDA device that is this rank's; -1: none
  uint64_t staging_mb = 0;  // SLIMCCL_STAGING_MB
  std::string family;       // the id under which this rank's process serves later meetings
};

[[nodiscard]] std::vector<std::byte> to_bytes(const Record& record);
[[nodiscard]] Record record_from_bytes(ConstBytes bytes);  // throws Error if they are no record

// What all ranks conclude from all records.
struct Agreement {
  topology::Topology topology;
  collectives::Policy policy;
  uint64_t segment_elems;  // a multiple of the superblock
  uint64_t window;
  bool checks = false;                 // every call's arguments are compared first
  uint64_t staging_bytes = 0;          // pinned memory of each rank; 0: host memory only
  std::vector<ncclUniqueId> families;  // by rank: where splits and shrinks may meet
  std::string
      warning;  // non-empty: why the communicator is exact although some rank asked for more
};

// Throws Error naming the ranks where versions differ. Where profiles differ the verdict is exact,
// with a warning; the numbers are rank 0's.
[[nodiscard]] Agreement agree(std::span<const Record> records);

}  // namespace slimccl::runtime
