#include "topology/topology.h"

#include <algorithm>
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

size_t Topology::largest_node() const noexcept {
  size_t largest = 0;
  for (const auto& members : members_) largest = std::max(largest, members.size());
  return largest;
}

int Topology::carrier(int node, int remote) const {
  if (node_of(remote) == node) return remote;
  const std::span<const int> ranks_of_node = members(node);
  return ranks_of_node[static_cast<size_t>(local_of(remote)) % ranks_of_node.size()];
}

int Topology::team_size() const {
  const auto fits = [this](int size) {
    for (int rank = 0; rank < ranks(); ++rank) {
      if (node_of(rank) != node_of(rank / size * size)) return false;
    }
    return ranks() % size == 0;
  };
  int size = ranks();
  while (!fits(size)) --size;
  return size;
}

}  // namespace slimccl::topology
