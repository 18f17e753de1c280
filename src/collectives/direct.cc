#include "collectives/direct.h"

#include <algorithm>

#include "collectives/plan_writer.h"

namespace slimccl::collectives::direct {
namespace {

enum Level : int { kPrepare, kExchange, kFinish };

// Receives what `peer` adds to the sum of slice `owner`.
Operand receive_summand(PlanWriter& plan, int peer, int owner, uint64_t elems) {
  const Operand theirs = plan.scratch(plan.summand_codec(), elems);
  plan.recv(kExchange, peer, Phase::kPartial, owner, elems, theirs);
  return plan.as_source(theirs);
}

// The sum of everybody's slice `owner`, ascending rank; `tag_owner(peer)` tells the messages apart.
template <class TagOwner>
std::vector<Operand> summands(PlanWriter& plan, int owner, TagOwner&& tag_owner) {
  std::vector<Operand> sources;
  for (int peer = 0; peer < plan.ranks(); ++peer) {
    sources.push_back(peer == plan.rank()
                          ? plan.own_source(plan.input(owner, true))
                          : receive_summand(plan, peer, tag_owner(peer), plan.elems_of(owner)));
  }
  return sources;
}

}  // namespace

Plan plan_all_gather(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                     bool in_place) {
  PlanWriter plan(shape, topology, rank);
  const uint64_t elems = plan.elems_of(rank);
  if (elems == 0) return {};
  const Operand own = plan.input(rank, false);
  if (!in_place) plan.finish(kPrepare, elems, {own}, plan.output(rank, true));
  for (int peer = 0; peer < plan.ranks(); ++peer) {
    if (peer == rank) continue;
    plan.send(kExchange, peer, Phase::kSpread, rank, elems, own);
    plan.recv(kExchange, peer, Phase::kSpread, peer, elems, plan.output(peer, true));
  }
  return plan.take();
}

Plan plan_reduce_scatter(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                         bool in_place) {
  PlanWriter plan(shape, topology, rank);
  const uint64_t elems = plan.elems_of(rank);
  if (elems == 0 || nothing_to_do(shape, topology, in_place)) return {};
  for (int owner = 0; owner < plan.ranks(); ++owner) {
    if (owner == rank) continue;
    const Operand mine = plan.summand(kPrepare, elems, plan.input(owner, true));
    plan.send(kExchange, owner, Phase::kPartial, owner, elems, mine);
  }
  plan.finish(kFinish, elems, summands(plan, rank, [&](int) { return rank; }),
              plan.output(rank, false));
  return plan.take();
}

Plan plan_all_reduce(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                     bool in_place) {
  PlanWriter plan(shape, topology, rank);
  const uint64_t elems = plan.elems_of(0);
  if (elems == 0 || nothing_to_do(shape, topology, in_place)) return {};
  if (plan.ranks() > 1) {
    const Operand mine = plan.summand(kPrepare, elems, plan.input(0, true));
    for (int peer = 0; peer < plan.ranks(); ++peer) {
      if (peer != rank) plan.send(kExchange, peer, Phase::kPartial, rank, elems, mine);
    }
  }
  plan.finish(kFinish, elems, summands(plan, 0, [](int peer) { return peer; }),
              plan.output(0, true));
  return plan.take();
}

Plan plan_broadcast(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                    bool in_place) {
  PlanWriter plan(shape, topology, rank);
  const uint64_t elems = plan.elems_of(0);
  const int root = shape.root;
  if (elems == 0) return {};
  if (rank != root) {
    plan.recv_and_acknowledge(kExchange, root, Phase::kSpread, elems, plan.output(0, true));
    return plan.take();
  }
  const Operand own = plan.input(0, true);
  if (!in_place) plan.finish(kPrepare, elems, {own}, plan.output(0, true));
  for (int peer = 0; peer < plan.ranks(); ++peer) {
    if (peer != rank) plan.send_acknowledged(kExchange, peer, Phase::kSpread, elems, own);
  }
  return plan.take();
}

Plan plan_reduce(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                 bool in_place) {
  PlanWriter plan(shape, topology, rank);
  const uint64_t elems = plan.elems_of(0);
  if (elems == 0 || nothing_to_do(shape, topology, in_place)) return {};
  if (rank != shape.root) {
    const Operand mine = plan.summand(kPrepare, elems, plan.input(0, true));
    plan.send_acknowledged(kExchange, shape.root, Phase::kPartial, elems, mine);
    return plan.take();
  }
  std::vector<Operand> sources;
  for (int peer = 0; peer < plan.ranks(); ++peer) {
    if (peer == rank) {
      sources.push_back(plan.own_source(plan.input(0, true)));
      continue;
    }
    const Operand theirs = plan.scratch(plan.summand_codec(), elems);
    plan.recv_and_acknowledge(kExchange, peer, Phase::kPartial, elems, theirs);
    sources.push_back(plan.as_source(theirs));
  }
  plan.finish(kFinish, elems, std::move(sources), plan.output(0, true));
  return plan.take();
}

WireBytes wire_bytes(const Shape& shape, const Topology& topology, const Codecs&) {
  const int ranks = topology.ranks();
  const Codec codec = is_reduction(shape.op) ? summand_codec(shape) : Codec::kTensor;
  WireBytes bytes;
  for (int one = 0; one < ranks; ++one) {
    const uint64_t elems = slice_elems(shape, ranks, one);
    if (elems == 0 || (has_root(shape.op) && one != shape.root)) continue;
    const uint64_t size = quant::encoded_bytes(codec, shape.type, elems) +
                          (has_root(shape.op) ? quant::type_bytes(shape.type) : 0);
    const uint64_t members = topology.members(topology.node_of(one)).size();
    bytes += {(members - 1) * size, (static_cast<uint64_t>(ranks) - members) * size};
  }
  return bytes;
}

Load load(const Shape& shape, const Topology& topology, const Codecs&) {
  const auto ranks = static_cast<uint64_t>(topology.ranks());
  const uint64_t bytes =
      quant::encoded_bytes(is_reduction(shape.op) ? summand_codec(shape) : Codec::kTensor,
                           shape.type, slice_stride(shape, topology.ranks()));
  const int answered = has_root(shape.op) ? 2 : 1;  // a message, and its acknowledgement
  Load load;
  for (int node = 0; node < topology.nodes(); ++node) {
    const uint64_t members = topology.members(node).size();
    const uint64_t senders = has_root(shape.op) ? 1 : members;
    load.busiest_node_bytes =
        std::max(load.busiest_node_bytes, senders * (ranks - members) * bytes);
    load.messages_in_node = std::max(load.messages_in_node, members - 1);
    load.messages_between_nodes = std::max(load.messages_between_nodes, ranks - members);
  }
  load.peers_between_nodes = static_cast<uint64_t>(topology.nodes() - 1);
  // The two kinds are under way at once: the slower counts.
  (topology.nodes() > 1 ? load.steps_between_nodes : load.steps_in_node) = answered;
  return load;
}

uint64_t scratch_messages(const Shape& shape, const Topology& topology) {
  if (!is_reduction(shape.op)) return 1;
  // Everybody's summand, and this rank's own prescaled ones.
  return 2 * static_cast<uint64_t>(topology.ranks());
}

}  // namespace slimccl::collectives::direct
