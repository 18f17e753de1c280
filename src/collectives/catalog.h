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

// What a call asks of the machine, for the cost model. Steps: messages one after the other on the
// longest way. Messages: sent by the rank that sends most of them. Each inside a node and between
// nodes.
struct Load {
  int steps_in_node = 0, steps_between_nodes = 0;
  uint64_t messages_in_node = 0, messages_between_nodes = 0;
  uint64_t busiest_node_bytes = 0;   // that one node sends to others
  uint64_t peers_between_nodes = 0;  // nodes that one rank sends to at once
};

struct Row {
  Collective op;
  std::string_view name;  // "exact", "two_hop"
  bool lossy;             // takes codecs; an exact row ignores them
  bool whole;             // cuts a call into segments of the whole, not of every rank's slice
  bool (*fits)(const Shape& shape, const Topology& topology);
  WireBytes (*wire_bytes)(const Shape& shape, const Topology& topology, const Codecs& codecs);
  Load (*load)(const Shape& shape, const Topology& topology, const Codecs& codecs);
  // How many unrounded messages of one slice's segment the scratch of no rank's plan exceeds: the
  // same on all ranks, so that all cut a call into the same segments.
  uint64_t (*scratch_messages)(const Shape& shape, const Topology& topology);
  // The plan of `rank`. in_place: Output is where NCCL's in-place form puts it in Input; it may
  // differ between ranks, the messages may not.
  Plan (*plan)(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank,
               bool in_place);
  // Taken only where somebody asks for it by name: it is not known to be faster anywhere.
  bool on_request = false;
};

// The call as this row cuts it.
[[nodiscard]] inline Shape cut_by(const Row& row, Shape shape) {
  shape.whole = row.whole;
  return shape;
}

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
