// What the ranks' words about themselves say of all: who shares a node, where children may meet.
// Pure; each list is by rank.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "slimccl/nccl.h"
#include "topology/topology.h"

namespace slimccl::runtime {

// One field of all records.
template <class Record>
[[nodiscard]] std::vector<std::string> by_rank(std::span<const Record> records,
                                               std::string Record::*field) {
  std::vector<std::string> values;
  for (const Record& record : records) values.push_back(record.*field);
  return values;
}

// Equal identities share a node.
[[nodiscard]] topology::Topology topology_of(std::span<const std::string> identities);

// Unique ids that were sent as text; empty means none. Throws Error naming a rank whose is too
// long.
[[nodiscard]] std::vector<ncclUniqueId> families_of(std::span<const std::string> texts);

}  // namespace slimccl::runtime
