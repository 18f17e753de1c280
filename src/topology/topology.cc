#include "topology/topology.h"

#include <map>

#include "base/error.h"

namespace slimccl::topology {

Topology::Topology(std::span<const int> node_labels) {
  check(!node_labels.empty(), ncclInvalidArgument,
        "a topology needs at least one rank, got an empty list of node labels");
  std::map<int, int> number_of;  // label to node; ascending ranks number nodes by their lowest rank
  node_of_.reserve(node_labels.size());
  local_of_.reserve(node_labels.size());
  for (const int label : node_labels) {
    const int node = number_of.try_emplace(label, nodes()).first->second;
    if (node == nodes()) members_.emplace_back();
    std::vector<int>& members = members_[static_cast<size_t>(node)];
    local_of_.push_back(static_cast<int>(members.size()));
    members.push_back(ranks());
    node_of_.push_back(node);
  }
}

int Topology::carrier(int node, int remote) const {
  if (node_of(remote) == node) return remote;
  const std::span<const int> ranks_of_node = members(node);
  return ranks_of_node[static_cast<size_t>(local_of(remote)) % ranks_of_node.size()];
}

}  // namespace slimccl::topology
