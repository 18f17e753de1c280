#include "collectives/two_hop.h"

#include <algorithm>
#include <optional>

#include "base/bytes.h"
#include "collectives/plan_writer.h"

namespace slimccl::collectives {
namespace {

// Levels, in order. An all-reduce uses all of them.
enum Level : int {
  kPrescale,
  kSumInNode,
  kPartials,
  kPartialsAcross,
  kTotals,
  kEncode,
  kSpreadOut,
  kRelayInNode,
  kDecode
};

class TwoHop {
 public:
  TwoHop(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank)
      : plan_(shape, topology, rank), topology_(topology), codecs_(codecs), rank_(rank) {}

  // Ends with the sum of slice `rank` in `result`.
  void reduce_scatter(const Operand& result) {
    for (int owner = 0; owner < topology_.ranks(); ++owner) {
      if (elems_of(owner) > 0) contribute(owner, result);
    }
    if (elems_of(rank_) > 0) total(result);
  }

  // Spreads `message` (slice `rank`, already encoded) to all; ends with every other slice decoded
  // in Output.
  void spread(const Operand& message) {
    if (elems_of(rank_) > 0) send_own(message);
    for (int owner = 0; owner < topology_.ranks(); ++owner) {
      if (owner != rank_ && elems_of(owner) > 0) receive(owner);
    }
  }

  // The own slice, made ready to be spread.
  void encode(const Operand& from, const Operand& to) {
    plan_.fold(kEncode, elems_of(rank_), {from}, to);
  }

  // A gathered value never leaves its type's finite range; a sum may, and then says so as infinity
  // does.
  void decode(int owner, const Operand& message, const Operand& slot) {
    plan_.fold(kDecode, elems_of(owner), {message}, slot,
               plan_.shape().op == Collective::kAllGather);
  }

  [[nodiscard]] uint64_t elems_of(int owner) const { return plan_.elems_of(owner); }
  [[nodiscard]] bool alone() const { return topology_.ranks() == 1; }
  [[nodiscard]] PlanWriter& plan() { return plan_; }
  Plan take() { return plan_.take(); }

 private:
  // This rank's part in the sum of slice `owner`: hands its input to the node's carrier, or is the
  // carrier.
  void contribute(int owner, const Operand& result) {
    const int carrier = topology_.carrier(plan_.node(), owner);
    if (carrier == rank_) return carry(owner, result);
    const Operand mine = plan_.summand(kPrescale, elems_of(owner), plan_.input(owner, true));
    plan_.send(kSumInNode, carrier, Phase::kSum, owner, elems_of(owner), mine);
  }

  // Folds the node's inputs to slice `owner`, ascending rank, and sends the partial to its owner on
  // another node.
  void carry(int owner, const Operand& result) {
    std::vector<Operand> sources;
    for (const int member : topology_.members(plan_.node())) {
      if (member == rank_) {
        sources.push_back(plan_.own_source(plan_.input(owner, true)));
        continue;
      }
      const Operand theirs = plan_.scratch(plan_.summand_codec(), elems_of(owner));
      plan_.recv(kSumInNode, member, Phase::kSum, owner, elems_of(owner), theirs);
      sources.push_back(plan_.as_source(theirs));
    }
    if (owner == rank_) return keep_partial(std::move(sources), result);
    if (sources.size() == 1 && codecs_.reduce == Codec::kTensor && !sources[0].scaled) {
      return plan_.send(kPartialsAcross, owner, Phase::kPartial, owner, elems_of(owner),
                        sources[0]);  // nothing to add, nothing to encode
    }
    const Operand message = plan_.scratch(codecs_.reduce, elems_of(owner));
    plan_.fold(kPartials, elems_of(owner), std::move(sources), message);
    plan_.send(kPartialsAcross, owner, Phase::kPartial, owner, elems_of(owner), message);
  }

  // The own node's partial: stays unrounded; with no other node it is the result.
  void keep_partial(std::vector<Operand> sources, const Operand& result) {
    if (topology_.nodes() == 1)
      return plan_.finish(kPartials, elems_of(rank_), std::move(sources), result);
    if (sources.size() == 1) {
      own_partial_ = sources[0];
      return;
    }
    own_partial_ = plan_.scratch(plan_.wide(), elems_of(rank_));
    plan_.fold(kPartials, elems_of(rank_), std::move(sources), *own_partial_);
  }

  void total(const Operand& result) {
    if (topology_.nodes() == 1) return;
    std::vector<Operand> partials;
    for (int node = 0; node < topology_.nodes(); ++node) {
      if (node == plan_.node()) {
        partials.push_back(*own_partial_);
        continue;
      }
      partials.push_back(plan_.scratch(codecs_.reduce, elems_of(rank_)));
      plan_.recv(kPartialsAcross, topology_.carrier(node, rank_), Phase::kPartial, rank_,
                 elems_of(rank_), partials.back());
    }
    plan_.finish(kTotals, elems_of(rank_), std::move(partials), result);
  }

  void send_own(const Operand& message) {
    for (const int peer : topology_.members(plan_.node())) {
      if (peer != rank_)
        plan_.send(kSpreadOut, peer, Phase::kSpread, rank_, elems_of(rank_), message);
    }
    for (int node = 0; node < topology_.nodes(); ++node) {
      if (node != plan_.node())
        plan_.send(kSpreadOut, topology_.carrier(node, rank_), Phase::kSpread, rank_,
                   elems_of(rank_), message);
    }
  }

  void receive(int owner) {
    const bool plain = codecs_.gather == Codec::kTensor;
    const Operand slot = plan_.output(owner, true);
    const Operand message = plain ? slot : plan_.scratch(codecs_.gather, elems_of(owner));
    const int relay =
        topology_.carrier(plan_.node(), owner);  // the owner itself, if it is of this node
    if (relay == owner || relay == rank_) {
      plan_.recv(kSpreadOut, owner, Phase::kSpread, owner, elems_of(owner), message);
    } else {
      plan_.recv(kRelayInNode, relay, Phase::kRelay, owner, elems_of(owner), message);
    }
    if (relay == rank_) {
      for (const int peer : topology_.members(plan_.node())) {
        if (peer != rank_)
          plan_.send(kRelayInNode, peer, Phase::kRelay, owner, elems_of(owner), message);
      }
    }
    if (!plain) decode(owner, message, slot);
  }

  PlanWriter plan_;
  const Topology& topology_;
  Codecs codecs_;
  int rank_;
  std::optional<Operand> own_partial_;
};

}  // namespace

Plan plan_reduce_scatter(const Shape& shape, const Topology& topology, const Codecs& codecs,
                         int rank, bool in_place) {
  if (nothing_to_do(shape, topology, in_place)) return {};
  TwoHop two_hop(shape, topology, codecs, rank);
  two_hop.reduce_scatter(two_hop.plan().output(rank, false));
  return two_hop.take();
}

Plan plan_all_gather(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank,
                     bool in_place) {
  TwoHop two_hop(shape, topology, codecs, rank);
  if (two_hop.elems_of(rank) == 0) return {};
  const Operand own = two_hop.plan().input(rank, false);
  const Operand slot = two_hop.plan().output(rank, true);
  if (codecs.gather == Codec::kTensor || two_hop.alone()) {
    if (!in_place) two_hop.encode(own, slot);
    two_hop.spread(own);
    return two_hop.take();
  }
  const Operand message = two_hop.plan().scratch(codecs.gather, two_hop.elems_of(rank));
  two_hop.encode(own, message);
  two_hop.spread(message);
  // In place the own slot stays as the caller has it: it may be the persistent parameter.
  if (!in_place) two_hop.decode(rank, message, slot);
  return two_hop.take();
}

Plan plan_all_reduce(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank,
                     bool in_place) {
  if (nothing_to_do(shape, topology, in_place)) return {};
  TwoHop two_hop(shape, topology, codecs, rank);
  const Operand slot = two_hop.plan().output(rank, true);
  if (codecs.gather == Codec::kTensor || two_hop.alone()) {
    two_hop.reduce_scatter(slot);
    two_hop.spread(slot);
    return two_hop.take();
  }
  const Operand message = two_hop.plan().scratch(codecs.gather, two_hop.elems_of(rank));
  two_hop.reduce_scatter(message);
  two_hop.spread(message);
  if (two_hop.elems_of(rank) > 0) two_hop.decode(rank, message, slot);
  return two_hop.take();
}

uint64_t two_hop_scratch_messages(const Shape& shape, const Topology& topology) {
  const Collective op = shape.op;
  const auto ranks = static_cast<uint64_t>(topology.ranks());
  const auto nodes = static_cast<uint64_t>(topology.nodes());
  uint64_t slices = op == Collective::kReduceScatter ? 0 : ranks;  // one message of each owner
  if (op == Collective::kAllGather) return slices;
  uint64_t busiest = 0;
  for (int node = 0; node < topology.nodes(); ++node) {
    const uint64_t members = topology.members(node).size();
    uint64_t carried = 1;  // the own slice, and its part of every other node's
    for (int other = 0; other < topology.nodes(); ++other) {
      if (other != node) carried += ceil_div(topology.members(other).size(), members);
    }
    // Of a carried slice: the others' inputs and the partial. Of the rest: a prescaled copy.
    busiest = std::max(busiest, carried * members + (ranks - std::min(ranks, carried)));
  }
  slices += busiest + nodes;  // and the partials of the own slice
  return slices;
}

WireBytes wire_bytes_of(const Shape& shape, const Topology& topology, const Codecs& codecs) {
  // Every slice crosses once per other node, and reaches (or leaves) each non-carrier of every node
  // once.
  const auto nodes = static_cast<uint64_t>(topology.nodes());
  const auto hops_in_node = static_cast<uint64_t>(topology.ranks()) - nodes;
  const Codec summed = summand_codec(shape);
  WireBytes bytes;
  for (int owner = 0; owner < topology.ranks(); ++owner) {
    const uint64_t elems = slice_elems(shape, topology.ranks(), owner);
    const auto size = [&](Codec codec) { return quant::encoded_bytes(codec, shape.type, elems); };
    if (shape.op != Collective::kAllGather) {
      bytes += {hops_in_node * size(summed), (nodes - 1) * size(codecs.reduce)};
    }
    if (shape.op != Collective::kReduceScatter) {
      bytes += {hops_in_node * size(codecs.gather), (nodes - 1) * size(codecs.gather)};
    }
  }
  return bytes;
}

Load load_of(const Shape& shape, const Topology& topology, const Codecs& codecs) {
  const int passes = shape.op == Collective::kAllReduce ? 2 : 1;
  const auto ranks = static_cast<uint64_t>(topology.ranks());
  Load load;
  load.steps_in_node = topology.largest_node() > 1 ? passes : 0;
  load.steps_between_nodes = topology.nodes() > 1 ? passes : 0;
  for (int node = 0; node < topology.nodes(); ++node) {
    const uint64_t members = topology.members(node).size();
    const uint64_t across =
        std::max<uint64_t>(ceil_div(ranks - members, members), topology.nodes() > 1 ? 1 : 0);
    load.messages_between_nodes =
        std::max(load.messages_between_nodes, static_cast<uint64_t>(passes) * across);
    load.messages_in_node =
        std::max(load.messages_in_node, static_cast<uint64_t>(passes) * (members - 1) * ranks);
    load.busiest_node_bytes =
        std::max(load.busiest_node_bytes, node_out_bytes(shape, topology, codecs, node));
  }
  load.peers_between_nodes = static_cast<uint64_t>(topology.nodes() - 1);
  load.messages_in_node = load.messages_in_node / std::max<uint64_t>(1, topology.largest_node());
  return load;
}

}  // namespace slimccl::collectives
