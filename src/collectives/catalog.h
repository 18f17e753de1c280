// The catalogue of algorithms: one row each, with when it fits, its wire bytes, its cost and its
// planner. Tests, selection, `explain`, perf and overrides all iterate it: a new algorithm is a new
// row.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "collectives/plan.h"
#include "topology/topology.h"

namespace slimccl::collectives {

using topology::Topology;

// Bytes that all ranks together send, by tier.
struct WireBytes {
  uint64_t in_node = 0;
  uint64_t between_nodes = 0;

  WireBytes& operator+=(const WireBytes& other) {
    in_node += other.in_node;
    between_nodes += other.between_nodes;
    return *this;
  }
  bool operator==(const WireBytes&) const = default;
};

struct Row {
  Collective op;
  std::string_view name;  // "exact", "two_hop"
  bool lossy;             // takes codecs; an exact row ignores them
  bool (*fits)(const Shape& shape, const Topology& topology);
  WireBytes (*wire_bytes)(const Shape& shape, const Topology& topology, const Codecs& codecs);
  // The plan of `rank`. in_place: Output is where NCCL's in-place form puts it in Input; it may
  // differ between ranks, the messages may not.
  Plan (*plan)(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank,
               bool in_place);
};

[[nodiscard]] std::span<const Row> catalog();
// Throws Error naming the rows that there are.
[[nodiscard]] const Row& find_row(Collective op, std::string_view name);

// Bytes that one rank, or all ranks of a node together, send to other nodes in this call, by the
// two-level scheme: what the node's network link carries out.
[[nodiscard]] uint64_t rank_out_bytes(const Shape& shape, const Topology& topology,
                                      const Codecs& codecs, int rank);
[[nodiscard]] uint64_t node_out_bytes(const Shape& shape, const Topology& topology,
                                      const Codecs& codecs, int node);

}  // namespace slimccl::collectives
