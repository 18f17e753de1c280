#include "collectives/chain.h"

#include <algorithm>

#include "collectives/plan_writer.h"

namespace slimccl::collectives::chain {
namespace {

constexpr int kMostNodes = 64;  // beyond, the way along the chain is long even for large calls

// Where a node stands in the chain: 0 is the root's.
class Chain {
 public:
  Chain(const Topology& topology, int root)
      : topology_(topology), root_(root), first_(topology.node_of(root)) {}

  [[nodiscard]] int place_of(int node) const {
    return (node - first_ + topology_.nodes()) % topology_.nodes();
  }
  [[nodiscard]] int entry_at(int place) const {
    return topology_.carrier((first_ + place) % topology_.nodes(), root_);
  }
  [[nodiscard]] int last_place() const { return topology_.nodes() - 1; }

 private:
  const Topology& topology_;
  int root_, first_;
};

}  // namespace

bool fits(const Shape&, const Topology& topology) {
  return topology.nodes() <= kMostNodes && topology.ranks() <= kMostRanks;
}

Plan plan_broadcast(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                    bool in_place) {
  PlanWriter plan(shape, topology, rank);
  const uint64_t elems = plan.elems_of(0);
  if (elems == 0) return {};
  const Chain chain(topology, shape.root);
  const int place = chain.place_of(plan.node()), entry = chain.entry_at(place);
  Operand held = plan.output(0, true);
  if (rank == shape.root) {
    held = plan.input(0, true);
    if (!in_place) plan.finish(0, elems, {held}, plan.output(0, true));
  } else if (rank == entry) {
    plan.recv_and_acknowledge(place, chain.entry_at(place - 1), Phase::kSpread, elems, held);
  } else {
    plan.recv_and_acknowledge(place + 1, entry, Phase::kRelay, elems, held);
  }
  if (rank != entry) return plan.take();
  if (place < chain.last_place()) {
    plan.send_acknowledged(place + 1, chain.entry_at(place + 1), Phase::kSpread, elems, held);
  }
  for (const int member : topology.members(plan.node())) {
    if (member != rank) plan.send_acknowledged(place + 1, member, Phase::kRelay, elems, held);
  }
  return plan.take();
}

Plan plan_reduce(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                 bool in_place) {
  PlanWriter plan(shape, topology, rank);
  const uint64_t elems = plan.elems_of(0);
  if (elems == 0 || nothing_to_do(shape, topology, in_place)) return {};
  const Chain chain(topology, shape.root);
  const int place = chain.place_of(plan.node()), entry = chain.entry_at(place);
  constexpr int kInNode = 1;
  const Operand own = plan.input(0, true);
  if (rank != entry) {
    plan.send_acknowledged(kInNode, entry, Phase::kSum, elems, plan.summand(0, elems, own));
    return plan.take();
  }
  // Three levels a node, from the chain's end to the root: receive, fold, send.
  const int receive = kInNode + 1 + 2 * (chain.last_place() - place);
  std::vector<Operand> sources;
  if (place < chain.last_place()) {
    const Operand partial = plan.scratch(Codec::kTensor, elems);
    plan.recv_and_acknowledge(receive, chain.entry_at(place + 1), Phase::kPartial, elems, partial);
    sources.push_back(partial);
  }
  for (const int member : topology.members(plan.node())) {
    if (member == rank) {
      sources.push_back(plan.own_source(own));
      continue;
    }
    const Operand theirs = plan.scratch(plan.summand_codec(), elems);
    plan.recv_and_acknowledge(kInNode, member, Phase::kSum, elems, theirs);
    sources.push_back(plan.as_source(theirs));
  }
  if (rank == shape.root) {
    plan.finish(receive + 1, elems, std::move(sources), plan.output(0, true));
    return plan.take();
  }
  const bool as_it_is = sources.size() == 1 && !sources[0].scaled;
  const Operand partial = as_it_is ? sources[0] : plan.scratch(Codec::kTensor, elems);
  if (!as_it_is) plan.fold(receive + 1, elems, std::move(sources), partial);
  plan.send_acknowledged(receive + 2, chain.entry_at(place - 1), Phase::kPartial, elems, partial);
  return plan.take();
}

WireBytes wire_bytes(const Shape& shape, const Topology& topology, const Codecs&) {
  const uint64_t elems = slice_elems(shape, topology.ranks(), 0);
  if (elems == 0) return {};
  const Codec in_node = shape.op == Collective::kReduce ? summand_codec(shape) : Codec::kTensor;
  const auto nodes = static_cast<uint64_t>(topology.nodes());
  const auto size = [&](Codec codec) {  // a message and its acknowledgement
    return quant::encoded_bytes(codec, shape.type, elems) + quant::type_bytes(shape.type);
  };
  return {(static_cast<uint64_t>(topology.ranks()) - nodes) * size(in_node),
          (nodes - 1) * size(Codec::kTensor)};
}

Load load(const Shape& shape, const Topology& topology, const Codecs&) {
  const uint64_t largest = topology.largest_node();
  const uint64_t bytes = shape.count * quant::type_bytes(shape.type);
  const bool crosses = topology.nodes() > 1;
  Load load;
  load.steps_in_node = largest > 1 ? 2 : 0;  // a message, and its acknowledgement
  load.steps_between_nodes = topology.nodes() - 1;
  load.messages_in_node = largest - 1;
  load.messages_between_nodes = load.peers_between_nodes = crosses ? 1 : 0;
  load.busiest_node_bytes = crosses ? bytes : 0;
  return load;
}

uint64_t scratch_messages(const Shape& shape, const Topology& topology) {
  if (shape.op == Collective::kBroadcast) return 1;
  return topology.largest_node() +
         2;  // the node's inputs, the partial that came and the one that goes
}

}  // namespace slimccl::collectives::chain
