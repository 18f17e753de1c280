#include "collectives/catalog.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "collectives/chain.h"
#include "collectives/direct.h"
#include "collectives/node_gather.h"
#include "collectives/ring.h"
#include "collectives/two_hop.h"

namespace slimccl::collectives {
namespace {

using Planner = Plan (*)(const Shape&, const Topology&, const Codecs&, int, bool);

// The exact rows are the two-level algorithms with every message in the tensor's own type.
template <Planner planner>
Plan plan_exact(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                bool in_place) {
  return planner(shape, topology, Codecs{}, rank, in_place);
}
WireBytes wire_bytes_exact(const Shape& shape, const Topology& topology, const Codecs&) {
  return wire_bytes_of(shape, topology, Codecs{});
}
Load load_exact(const Shape& shape, const Topology& topology, const Codecs&) {
  return load_of(shape, topology, Codecs{});
}

bool any(const Shape&, const Topology&) { return true; }
bool crosses_nodes(const Shape& shape, const Topology& topology) {
  return topology.nodes() > 1 && quant::is_float(shape.type) && shape.reduction == Reduction::kSum;
}

constexpr bool kLossy = true, kExact = false, kWhole = true, kBySlice = false, kOnRequest = true;

constexpr Row kRows[] = {
    {Collective::kAllGather, "exact", kExact, kBySlice, any, wire_bytes_exact, load_exact,
     two_hop_scratch_messages, plan_exact<plan_all_gather>},
    {Collective::kAllGather, "direct", kExact, kBySlice, any, direct::wire_bytes, direct::load,
     direct::scratch_messages, direct::plan_all_gather},
    {Collective::kAllGather, "ring", kExact, kBySlice, ring::fits, ring::wire_bytes, ring::load,
     ring::scratch_messages, ring::plan_all_gather},
    {Collective::kAllGather, "two_hop", kLossy, kBySlice, crosses_nodes, wire_bytes_of, load_of,
     two_hop_scratch_messages, plan_all_gather},
    {Collective::kAllGather, "node", kLossy, kBySlice, node_gather::fits, node_gather::wire_bytes,
     node_gather::load, node_gather::scratch_messages, node_gather::plan_all_gather, kOnRequest},
    {Collective::kReduceScatter, "exact", kExact, kBySlice, any, wire_bytes_exact, load_exact,
     two_hop_scratch_messages, plan_exact<plan_reduce_scatter>},
    {Collective::kReduceScatter, "direct", kExact, kBySlice, any, direct::wire_bytes, direct::load,
     direct::scratch_messages, direct::plan_reduce_scatter},
    {Collective::kReduceScatter, "ring", kExact, kBySlice, ring::fits, ring::wire_bytes, ring::load,
     ring::scratch_messages, ring::plan_reduce_scatter},
    {Collective::kReduceScatter, "two_hop", kLossy, kBySlice, crosses_nodes, wire_bytes_of, load_of,
     two_hop_scratch_messages, plan_reduce_scatter},
    {Collective::kAllReduce, "exact", kExact, kBySlice, any, wire_bytes_exact, load_exact,
     two_hop_scratch_messages, plan_exact<plan_all_reduce>},
    {Collective::kAllReduce, "direct", kExact, kWhole, any, direct::wire_bytes, direct::load,
     direct::scratch_messages, direct::plan_all_reduce},
    {Collective::kAllReduce, "ring", kExact, kBySlice, ring::fits, ring::wire_bytes, ring::load,
     ring::scratch_messages, ring::plan_all_reduce},
    {Collective::kAllReduce, "two_hop", kLossy, kBySlice, crosses_nodes, wire_bytes_of, load_of,
     two_hop_scratch_messages, plan_all_reduce},
    {Collective::kBroadcast, "chain", kExact, kWhole, chain::fits, chain::wire_bytes, chain::load,
     chain::scratch_messages, chain::plan_broadcast},
    {Collective::kBroadcast, "direct", kExact, kWhole, any, direct::wire_bytes, direct::load,
     direct::scratch_messages, direct::plan_broadcast},
    {Collective::kReduce, "chain", kExact, kWhole, chain::fits, chain::wire_bytes, chain::load,
     chain::scratch_messages, chain::plan_reduce},
    {Collective::kReduce, "direct", kExact, kWhole, any, direct::wire_bytes, direct::load,
     direct::scratch_messages, direct::plan_reduce},
};

}  // namespace

std::span<const Row> catalog() { return kRows; }

const Row& find_row(Collective op, std::string_view row_name) {
  std::string known;
  for (const Row& row : kRows) {
    if (row.op != op) continue;
    if (row.name == row_name) return row;
    known += concat(known.empty() ? "" : ", ", row.name);
  }
  throw Error(ncclInvalidArgument,
              concat(name(op), " has no algorithm \"", row_name, "\"; there are: ", known));
}

uint64_t rank_out_bytes(const Shape& shape, const Topology& topology, const Codecs& codecs,
                        int rank) {
  const int node = topology.node_of(rank);
  const auto bytes_of = [&](int owner, Codec codec) {
    return quant::encoded_bytes(codec, shape.type, slice_elems(shape, topology.ranks(), owner));
  };
  uint64_t bytes = 0;
  if (shape.op != Collective::kAllGather) {
    for (int owner = 0; owner < topology.ranks(); ++owner) {
      const bool carries = topology.node_of(owner) != node && topology.carrier(node, owner) == rank;
      if (carries) bytes += bytes_of(owner, codecs.reduce);
    }
  }
  if (shape.op != Collective::kReduceScatter) {
    bytes += static_cast<uint64_t>(topology.nodes() - 1) * bytes_of(rank, codecs.gather);
  }
  return bytes;
}

uint64_t node_out_bytes(const Shape& shape, const Topology& topology, const Codecs& codecs,
                        int node) {
  const auto bytes_of = [&](int owner, Codec codec) {
    return quant::encoded_bytes(codec, shape.type, slice_elems(shape, topology.ranks(), owner));
  };
  // Every other node's slice is carried by one rank of this one.
  uint64_t bytes = 0;
  for (int owner = 0; owner < topology.ranks() && shape.op != Collective::kAllGather; ++owner) {
    if (topology.node_of(owner) != node) bytes += bytes_of(owner, codecs.reduce);
  }
  if (shape.op == Collective::kReduceScatter) return bytes;
  for (const int rank : topology.members(node))
    bytes += static_cast<uint64_t>(topology.nodes() - 1) * bytes_of(rank, codecs.gather);
  return bytes;
}

}  // namespace slimccl::collectives
