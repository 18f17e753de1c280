#include "collectives/catalog.h"

#include <algorithm>
#include <string>

#include "base/error.h"
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

bool any_gather(const Shape&, const Topology&) { return true; }
bool sums(const Shape& shape, const Topology&) { return quant::is_float(shape.type); }
bool crosses_nodes(const Shape& shape, const Topology& topology) {
  return topology.nodes() > 1 && quant::is_float(shape.type);
}

constexpr Row kRows[] = {
    {Collective::kAllGather, "exact", false, any_gather, wire_bytes_exact,
     plan_exact<plan_all_gather>},
    {Collective::kAllGather, "two_hop", true, crosses_nodes, wire_bytes_of, plan_all_gather},
    {Collective::kReduceScatter, "exact", false, sums, wire_bytes_exact,
     plan_exact<plan_reduce_scatter>},
    {Collective::kReduceScatter, "two_hop", true, crosses_nodes, wire_bytes_of,
     plan_reduce_scatter},
    {Collective::kAllReduce, "exact", false, sums, wire_bytes_exact, plan_exact<plan_all_reduce>},
    {Collective::kAllReduce, "two_hop", true, crosses_nodes, wire_bytes_of, plan_all_reduce},
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
  uint64_t bytes = 0;
  for (const int rank : topology.members(node))
    bytes += rank_out_bytes(shape, topology, codecs, rank);
  return bytes;
}

}  // namespace slimccl::collectives
