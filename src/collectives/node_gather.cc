#include "collectives/node_gather.h"

#include <algorithm>

#include "base/bytes.h"
#include "collectives/plan_writer.h"

namespace slimccl::collectives::node_gather {
namespace {

// Levels, in order. The gather's is none at which the two-level rows have messages: coalesced calls
// share levels, and so no group of messages has both.
enum Level : int { kEncode = 5, kAcross = 6, kGather = 8, kDecode = 9 };

// Bytes from one message of the table to the next.
uint64_t stride(const Shape& shape, const Codecs& codecs, uint64_t elems) {
  return round_up(quant::encoded_bytes(codecs.gather, shape.type, elems), quant::kMessageAlign);
}

class Writer {
 public:
  Writer(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank)
      : plan_(shape, topology, rank), topology_(topology), rank_(rank) {
    for (int place = 0; place < topology.ranks(); ++place)
      table_.push_back(plan_.scratch(codecs.gather, elems()));
    row_bytes_ = static_cast<uint64_t>(topology.nodes()) * stride(shape, codecs, elems());
  }

  Plan all_gather(bool in_place) {
    plan_.fold(kEncode, elems(), {plan_.input(rank_, false)}, message_of(rank_));
    for (int node = 0; node < topology_.nodes(); ++node) {
      if (node != plan_.node()) exchange(topology_.carrier(node, rank_));
    }
    for (const int peer : topology_.members(plan_.node())) {
      if (peer != rank_) share(peer);
    }
    for (int owner = 0; owner < topology_.ranks(); ++owner) {
      // In place the own slot stays as the caller has it: it may be the persistent parameter.
      if (owner == rank_ && in_place) continue;
      plan_.fold(kDecode, elems(), {message_of(owner)}, plan_.output(owner, true), true);
    }
    Plan plan = plan_.take();
    plan.gather = {kGather, row_of(rank_).slice, whole_table()};
    return plan;
  }

 private:
  [[nodiscard]] uint64_t elems() const { return plan_.elems_of(rank_); }
  [[nodiscard]] const Operand& message_of(int owner) const {
    const int place = topology_.local_of(owner) * topology_.nodes() + topology_.node_of(owner);
    return table_[static_cast<size_t>(place)];
  }

  // As bytes: of messages of any codec, with what is between them.
  [[nodiscard]] Operand row_of(int member) const {
    const auto local = static_cast<uint64_t>(topology_.local_of(member));
    return {{Region::kScratch, local * row_bytes_, row_bytes_}, Codec::kTensor};
  }
  [[nodiscard]] Slice whole_table() const {
    return {Region::kScratch, 0, topology_.largest_node() * row_bytes_};
  }

  void exchange(int peer) {
    plan_.send(kAcross, peer, Phase::kSpread, rank_, elems(), message_of(rank_));
    plan_.recv(kAcross, peer, Phase::kSpread, peer, elems(), message_of(peer));
  }

  void share(int peer) {
    const uint64_t row_elems = row_bytes_ / quant::type_bytes(plan_.shape().type);
    plan_.send(kGather, peer, Phase::kRelay, rank_, row_elems, row_of(rank_));
    plan_.recv(kGather, peer, Phase::kRelay, peer, row_elems, row_of(peer));
  }

  PlanWriter plan_;
  const Topology& topology_;
  int rank_;
  std::vector<Operand> table_;
  uint64_t row_bytes_;
};

}  // namespace

bool fits(const Shape& shape, const Topology& topology) {
  if (topology.nodes() == 1 || topology.largest_node() == 1 || !quant::is_float(shape.type))
    return false;
  return topology.largest_node() * static_cast<size_t>(topology.nodes()) ==
         static_cast<size_t>(topology.ranks());
}

Plan plan_all_gather(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank,
                     bool in_place) {
  if (slice_elems(shape, topology.ranks(), rank) == 0) return {};
  return Writer(shape, topology, codecs, rank).all_gather(in_place);
}

uint64_t scratch_messages(const Shape&, const Topology& topology) {
  return static_cast<uint64_t>(topology.ranks());
}

WireBytes wire_bytes(const Shape& shape, const Topology& topology, const Codecs& codecs) {
  const auto ranks = static_cast<uint64_t>(topology.ranks());
  const auto nodes = static_cast<uint64_t>(topology.nodes());
  const uint64_t elems = slice_elems(shape, topology.ranks(), 0);
  const uint64_t to_each_node = quant::encoded_bytes(codecs.gather, shape.type, elems);
  const uint64_t to_each_neighbour = nodes * stride(shape, codecs, elems);
  return {ranks * (topology.largest_node() - 1) * to_each_neighbour,
          ranks * (nodes - 1) * to_each_node};
}

Load load(const Shape& shape, const Topology& topology, const Codecs& codecs) {
  const auto others = static_cast<uint64_t>(topology.nodes() - 1);
  return {.steps_in_node = 1,
          .steps_between_nodes = 1,
          .messages_in_node = topology.largest_node() - 1,
          .messages_between_nodes = others,
          .busiest_node_bytes = node_out_bytes(shape, topology, codecs, 0),
          .peers_between_nodes = others};
}

}  // namespace slimccl::collectives::node_gather
