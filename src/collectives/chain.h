// Broadcast and reduce along the chain of nodes: whole segments travel from node to node, so that
// every link carries the tensor once and all links work at once on a long call.
//
// The chain starts at the root's node and goes on in ascending node number, round the end. In each
// node one rank is its entry: the root, elsewhere topology.carrier(node, root). Broadcast: an entry
// passes on to the next node's entry and to the ranks of its own node. Reduce: the other way; an
// entry folds the partial from the node behind it, then its own node's inputs in ascending rank.
// Every message is acknowledged: its sender is done when the receiver has it, so no rank runs far
// ahead of one that it sends to.
#pragma once

#include "collectives/catalog.h"

namespace slimccl::collectives::chain {

// With the root changing, a rank can be as many calls ahead of another as there are ranks: the
// executor's tags must keep those apart.
inline constexpr int kMostRanks = 1024;

[[nodiscard]] bool fits(const Shape&, const Topology&);
[[nodiscard]] Plan plan_broadcast(const Shape&, const Topology&, const Codecs&, int rank,
                                  bool in_place);
[[nodiscard]] Plan plan_reduce(const Shape&, const Topology&, const Codecs&, int rank,
                               bool in_place);

[[nodiscard]] WireBytes wire_bytes(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] Load load(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] uint64_t scratch_messages(const Shape&, const Topology&);

}  // namespace slimccl::collectives::chain
