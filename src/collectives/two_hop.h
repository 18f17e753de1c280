// The two-level algorithms: sum (or spread) inside the node, one message per slice and pair of
// nodes across.
//
// Who carries what: in node A the slice of rank d of another node is carried by A's rank with local
// index local(d) mod (A's ranks). Reduce-scatter: the carrier folds A's inputs in ascending rank
// and sends one message to d; d folds the node partials in ascending node number, its own node's
// partial in fp32, never encoded. All-gather is the mirror image: one message to each other node's
// carrier, which passes it on in its node. All-reduce is the one after the other; the owner encodes
// its slice once and decodes it like everyone. With equal nodes this is ZeRO++'s scheme (qgZ, qwZ;
// arXiv 2306.10209), and uneven or interleaved nodes change nothing in it.
#pragma once

#include "collectives/catalog.h"

namespace slimccl::collectives {

[[nodiscard]] Plan plan_all_gather(const Shape&, const Topology&, const Codecs&, int rank,
                                   bool in_place);
[[nodiscard]] Plan plan_reduce_scatter(const Shape&, const Topology&, const Codecs&, int rank,
                                       bool in_place);
[[nodiscard]] Plan plan_all_reduce(const Shape&, const Topology&, const Codecs&, int rank,
                                   bool in_place);

[[nodiscard]] uint64_t two_hop_scratch_messages(const Shape&, const Topology&);
[[nodiscard]] WireBytes wire_bytes_of(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] Load load_of(const Shape&, const Topology&, const Codecs&);

}  // namespace slimccl::collectives
