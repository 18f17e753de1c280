// The ring algorithms: every rank talks to two neighbours only. Ranks stand in the order of their
// nodes, so one link of each node leaves it.
//
// Reduce-scatter: the sum of slice d starts at d's successor, each rank on the way adds its own
// input, d adds the last. So the sum is ((x[d+1] + x[d+2]) + ...) + x[d] by places in the ring,
// each partial in the tensor's type: only for types whose sums are kept in the type itself.
// (Patarasuk, Yuan: Bandwidth optimal all-reduce algorithms, 2009.)
#pragma once

#include <vector>

#include "collectives/catalog.h"

namespace slimccl::collectives::ring {

// The ranks by their place in the ring: node by node, ascending.
[[nodiscard]] std::vector<int> order(const Topology&);

[[nodiscard]] bool fits(const Shape&, const Topology&);
[[nodiscard]] Plan plan_all_gather(const Shape&, const Topology&, const Codecs&, int rank,
                                   bool in_place);
[[nodiscard]] Plan plan_reduce_scatter(const Shape&, const Topology&, const Codecs&, int rank,
                                       bool in_place);
[[nodiscard]] Plan plan_all_reduce(const Shape&, const Topology&, const Codecs&, int rank,
                                   bool in_place);

[[nodiscard]] WireBytes wire_bytes(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] Load load(const Shape&, const Topology&, const Codecs&);
[[nodiscard]] uint64_t scratch_messages(const Shape&, const Topology&);

}  // namespace slimccl::collectives::ring
