// The direct algorithms: every rank's data goes straight to whoever needs it, one hop. Fewest
// steps, most bytes between nodes: for small calls.
//
// Reductions fold all inputs in ascending rank, once, in the accumulator of the type. Rooted calls
// are acknowledged message by message, so that no rank runs away from a slow one.
#pragma once

#include "collectives/catalog.h"

namespace slimccl::collectives::direct {

[[nodiscard]] Plan plan_all_gather(const Shape&, const Topology&, const Codecs&, int rank,
                                   bool in_place);
[[nodiscard]] Plan plan_reduce_scatter(const Shape&, const Topology&, const Codecs&, int rank,
                                       bool in_place);
[[nodiscard]] Plan plan_all_reduce(const Shape&, const Topology&, const Codecs&, int rank,
                                   bool in_place);
[[nodiscard]] Plan plan_broadcast(const Shape&, const Topology&, const Codecs&, int rank,
                                  bool in_place);
[[nodiscard]] Plan plan_reduce(const Shape&, const Topology&, const Codecs&, int rank,
                               bool in_place);

[[nodiscard]] WireBytes wire_bytes(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] Load load(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] uint64_t scratch_messages(const Shape&, const Topology&);

}  // namespace slimccl::collectives::direct
