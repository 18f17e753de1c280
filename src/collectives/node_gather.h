// The all-gather for equal nodes of several ranks whose last hop is one all-gather in every node:
// each rank exchanges its message with the ranks of its local index on the other nodes, then all of
// a node share what they hold. Between nodes it sends what the two-level scheme does.
//
// Scratch is a table of messages: a row for each local index, in it one message of each node in
// ascending order. A rank fills the row of its own index; the gather fills the others.
#pragma once

#include "collectives/catalog.h"

namespace slimccl::collectives::node_gather {

[[nodiscard]] bool fits(const Shape&, const Topology&);
[[nodiscard]] Plan plan_all_gather(const Shape&, const Topology&, const Codecs&, int rank,
                                   bool in_place);

[[nodiscard]] WireBytes wire_bytes(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] Load load(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] uint64_t scratch_messages(const Shape&, const Topology&);

}  // namespace slimccl::collectives::node_gather
