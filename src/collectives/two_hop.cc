#include "collectives/two_hop.h"

#include <algorithm>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"

namespace slimccl::collectives {
namespace {

// Tags: which part of the exchange, and whose slice. 22 bits of rank leave the executor its share
// of a 64-bit tag.
enum class Phase : uint32_t { kSum = 0, kPartial = 1, kSpread = 2, kRelay = 3 };
constexpr int kRankBits = 22;

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
  TwoHop(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank,
         bool in_place)
      : shape_(shape),
        topology_(topology),
        codecs_(codecs),
        rank_(rank),
        in_place_(in_place),
        node_(topology.node_of(rank)),
        element_bytes_(quant::type_bytes(shape.type)) {}

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

  // Slice `owner` of the caller's Input; `whole`: Input holds every slice, else only the own one.
  [[nodiscard]] Operand input(int owner, bool whole) const {
    return {{Region::kInput, whole ? offset_of(owner) : 0, plain_bytes(owner)}, Codec::kTensor};
  }
  [[nodiscard]] Operand output(int owner, bool whole) const {
    return {{Region::kOutput, whole ? offset_of(owner) : 0, plain_bytes(owner)}, Codec::kTensor};
  }
  Operand scratch(Codec codec, int owner) {
    const uint64_t bytes = quant::encoded_bytes(codec, shape_.type, elems_of(owner));
    const uint64_t offset = plan_.scratch_bytes;
    plan_.scratch_bytes += round_up(bytes, quant::kMessageAlign);
    return {{Region::kScratch, offset, bytes}, codec};
  }

  void fold(int level, int owner, std::vector<Operand> from, const Operand& to,
            bool saturate = false) {
    const bool plain_copy = from.size() == 1 && !from[0].scaled && from[0].codec == to.codec &&
                            from[0].slice.bytes == to.slice.bytes;
    plan_.steps.push_back({.kind = plain_copy ? Kind::kCopy : Kind::kFold,
                           .level = level,
                           .elems = elems_of(owner),
                           .from = std::move(from),
                           .to = to,
                           .saturate = saturate && !plain_copy});
  }

  // A gathered value never leaves its type's finite range; a sum may, and then says so as infinity
  // does.
  void decode(int owner, const Operand& message, const Operand& slot) {
    fold(kDecode, owner, {message}, slot, shape_.op == Collective::kAllGather);
  }

  [[nodiscard]] uint64_t elems_of(int owner) const {
    return slice_elems(shape_, topology_.ranks(), owner);
  }
  [[nodiscard]] bool alone() const { return topology_.ranks() == 1; }
  [[nodiscard]] bool scaling() const { return shape_.scaling != Scaling::kNone; }
  // Program order is level order: what is said first is what everybody can do first.
  Plan take() {
    std::ranges::stable_sort(plan_.steps, {}, &Step::level);
    return std::move(plan_);
  }

 private:
  [[nodiscard]] uint64_t offset_of(int owner) const {
    return slice_stride(shape_, topology_.ranks()) * static_cast<uint64_t>(owner) * element_bytes_;
  }
  [[nodiscard]] uint64_t plain_bytes(int owner) const { return elems_of(owner) * element_bytes_; }
  static uint32_t tag(Phase phase, int owner) {
    return static_cast<uint32_t>(phase) << kRankBits | static_cast<uint32_t>(owner);
  }
  void send(int level, int peer, Phase phase, int owner, const Operand& what) {
    plan_.steps.push_back({.kind = Kind::kSend,
                           .level = level,
                           .peer = peer,
                           .tag = tag(phase, owner),
                           .elems = elems_of(owner),
                           .from = {what}});
  }
  void recv(int level, int peer, Phase phase, int owner, const Operand& into) {
    plan_.steps.push_back({.kind = Kind::kRecv,
                           .level = level,
                           .peer = peer,
                           .tag = tag(phase, owner),
                           .elems = elems_of(owner),
                           .to = into});
  }

  // Own inputs are read with the call's scale, unless it was applied before.
  [[nodiscard]] Operand scaled_input(int owner) const {
    Operand operand = input(owner, true);
    operand.scaled = scaling();
    return operand;
  }

  // This rank's part in the sum of slice `owner`: hands its input to the node's carrier, or is the
  // carrier.
  void contribute(int owner, const Operand& result) {
    const int carrier = topology_.carrier(node_, owner);
    if (carrier == rank_) return carry(owner, result);
    Operand mine = input(owner, true);
    if (shape_.scaling == Scaling::kPerRank) {  // the carrier does not know this rank's scale
      mine.scaled = true;
      const Operand prescaled = scratch(Codec::kFp32, owner);
      fold(kPrescale, owner, {mine}, prescaled);
      mine = prescaled;
    }
    send(kSumInNode, carrier, Phase::kSum, owner, mine);
  }

  // Folds the node's inputs to slice `owner`, ascending rank, and sends the partial to its owner on
  // another node.
  void carry(int owner, const Operand& result) {
    std::vector<Operand> sources;
    for (const int member : topology_.members(node_)) {
      if (member == rank_) {
        sources.push_back(scaled_input(owner));
        continue;
      }
      const bool prescaled = shape_.scaling == Scaling::kPerRank;
      Operand theirs = scratch(prescaled ? Codec::kFp32 : Codec::kTensor, owner);
      recv(kSumInNode, member, Phase::kSum, owner, theirs);
      theirs.scaled = shape_.scaling == Scaling::kUniform;
      sources.push_back(theirs);
    }
    if (owner == rank_) return keep_partial(std::move(sources), result);
    if (sources.size() == 1 && codecs_.reduce == Codec::kTensor && !scaling()) {
      return send(kPartialsAcross, owner, Phase::kPartial, owner,
                  sources[0]);  // nothing to add, nothing to encode
    }
    const Operand message = scratch(codecs_.reduce, owner);
    fold(kPartials, owner, std::move(sources), message);
    send(kPartialsAcross, owner, Phase::kPartial, owner, message);
  }

  // The own node's partial: stays fp32; with no other node it is the result.
  void keep_partial(std::vector<Operand> sources, const Operand& result) {
    if (topology_.nodes() == 1) return fold(kPartials, rank_, std::move(sources), result);
    if (sources.size() == 1) {
      own_partial_ = sources[0];
      return;
    }
    own_partial_ = scratch(Codec::kFp32, rank_);
    fold(kPartials, rank_, std::move(sources), *own_partial_);
  }

  void total(const Operand& result) {
    if (topology_.nodes() == 1) return;
    std::vector<Operand> partials;
    for (int node = 0; node < topology_.nodes(); ++node) {
      if (node == node_) {
        partials.push_back(*own_partial_);
        continue;
      }
      partials.push_back(scratch(codecs_.reduce, rank_));
      recv(kPartialsAcross, topology_.carrier(node, rank_), Phase::kPartial, rank_,
           partials.back());
    }
    fold(kTotals, rank_, std::move(partials), result);
  }

  void send_own(const Operand& message) {
    for (const int peer : topology_.members(node_)) {
      if (peer != rank_) send(kSpreadOut, peer, Phase::kSpread, rank_, message);
    }
    for (int node = 0; node < topology_.nodes(); ++node) {
      if (node != node_)
        send(kSpreadOut, topology_.carrier(node, rank_), Phase::kSpread, rank_, message);
    }
  }

  void receive(int owner) {
    const bool plain = codecs_.gather == Codec::kTensor;
    const Operand slot = output(owner, true);
    const Operand message = plain ? slot : scratch(codecs_.gather, owner);
    const int relay = topology_.carrier(node_, owner);  // the owner itself, if it is of this node
    if (relay == owner || relay == rank_) {
      recv(kSpreadOut, owner, Phase::kSpread, owner, message);
    } else {
      recv(kRelayInNode, relay, Phase::kRelay, owner, message);
    }
    if (relay == rank_) {
      for (const int peer : topology_.members(node_)) {
        if (peer != rank_) send(kRelayInNode, peer, Phase::kRelay, owner, message);
      }
    }
    if (!plain) decode(owner, message, slot);
  }

  Shape shape_;
  const Topology& topology_;
  Codecs codecs_;
  int rank_;
  bool in_place_;
  int node_;
  uint64_t element_bytes_;
  std::optional<Operand> own_partial_;
  Plan plan_;
};

}  // namespace

Plan plan_reduce_scatter(const Shape& shape, const Topology& topology, const Codecs& codecs,
                         int rank, bool in_place) {
  TwoHop two_hop(shape, topology, codecs, rank, in_place);
  if (two_hop.alone() && in_place && !two_hop.scaling()) return {};
  two_hop.reduce_scatter(two_hop.output(rank, false));
  return two_hop.take();
}

Plan plan_all_gather(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank,
                     bool in_place) {
  TwoHop two_hop(shape, topology, codecs, rank, in_place);
  if (two_hop.elems_of(rank) == 0) return {};
  const Operand own = two_hop.input(rank, false);
  const Operand slot = two_hop.output(rank, true);
  if (codecs.gather == Codec::kTensor || two_hop.alone()) {
    if (!in_place) two_hop.fold(kEncode, rank, {own}, slot);
    two_hop.spread(own);
    return two_hop.take();
  }
  const Operand message = two_hop.scratch(codecs.gather, rank);
  two_hop.fold(kEncode, rank, {own}, message);
  two_hop.spread(message);
  // In place the own slot stays as the caller has it: it may be the persistent parameter.
  if (!in_place) two_hop.decode(rank, message, slot);
  return two_hop.take();
}

Plan plan_all_reduce(const Shape& shape, const Topology& topology, const Codecs& codecs, int rank,
                     bool in_place) {
  TwoHop two_hop(shape, topology, codecs, rank, in_place);
  if (two_hop.alone() && in_place && !two_hop.scaling()) return {};
  const Operand slot = two_hop.output(rank, true);
  if (codecs.gather == Codec::kTensor || two_hop.alone()) {
    two_hop.reduce_scatter(slot);
    two_hop.spread(slot);
    return two_hop.take();
  }
  const Operand message = two_hop.scratch(codecs.gather, rank);
  two_hop.reduce_scatter(message);
  two_hop.spread(message);
  if (two_hop.elems_of(rank) > 0) two_hop.decode(rank, message, slot);
  return two_hop.take();
}

uint64_t scratch_bytes_per_elem(Collective op, const Topology& topology) {
  const auto ranks = static_cast<uint64_t>(topology.ranks());
  const auto nodes = static_cast<uint64_t>(topology.nodes());
  uint64_t slices = op == Collective::kReduceScatter ? 0 : ranks;  // one message of each owner
  if (op == Collective::kAllGather) return slices * sizeof(float);
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
  return slices * sizeof(float);
}

WireBytes wire_bytes_of(const Shape& shape, const Topology& topology, const Codecs& codecs) {
  // Every slice crosses once per other node, and reaches (or leaves) each non-carrier of every node
  // once.
  const auto nodes = static_cast<uint64_t>(topology.nodes());
  const auto hops_in_node = static_cast<uint64_t>(topology.ranks()) - nodes;
  const Codec summed = shape.scaling == Scaling::kPerRank ? Codec::kFp32 : Codec::kTensor;
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

}  // namespace slimccl::collectives
