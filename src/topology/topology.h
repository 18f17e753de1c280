// Which rank lives on which node: a pure value. Nodes are numbered by their lowest rank; a rank's
// local index is its place among the node's ranks in ascending order. Ranks of a node need not be
// contiguous, nodes need not be equal.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slimccl::topology {

class Topology {
 public:
  // node_labels[r]: any label (equal = same node) of rank r. Throws if empty.
  explicit Topology(std::span<const int> node_labels);

  [[nodiscard]] int ranks() const noexcept { return static_cast<int>(node_of_.size()); }
  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(members_.size()); }
  [[nodiscard]] int node_of(int rank) const { return node_of_.at(static_cast<size_t>(rank)); }
  [[nodiscard]] int local_of(int rank) const { return local_of_.at(static_cast<size_t>(rank)); }
  [[nodiscard]] size_t largest_node() const noexcept;  // how many ranks it has
  // Ranks of a node, ascending.
  [[nodiscard]] std::span<const int> members(int node) const {
    return members_.at(static_cast<size_t>(node));
  }
  // The rank of `node` that carries rank `remote`'s data for it: local index local(remote) mod
  // (ranks of the node). For a rank of the same node that is the rank itself.
  [[nodiscard]] int carrier(int node, int remote) const;
  // The size of teams: equal, contiguous, within a node, and as large as that allows.
  [[nodiscard]] int team_size() const;

  bool operator==(const Topology&) const = default;

 private:
  std::vector<int> node_of_;
  std::vector<int> local_of_;
  std::vector<std::vector<int>> members_;
};

// "2x4" (2 nodes of 4), "3+1", "2+2+1", or a node per rank: "0,1,0,1". Throws Error saying what is
// wrong with `text`.
[[nodiscard]] Topology parse(std::string_view text);
// The shortest of those forms that parses back to an equal value.
[[nodiscard]] std::string to_text(const Topology& topology);

}  // namespace slimccl::topology
