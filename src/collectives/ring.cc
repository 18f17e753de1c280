#include "collectives/ring.h"

#include <algorithm>

#include "collectives/plan_writer.h"

namespace slimccl::collectives::ring {
namespace {

class Ring {
 public:
  Ring(const Shape& shape, const Topology& topology, int rank)
      : plan_(shape, topology, rank),
        order_(order(topology)),
        ranks_(topology.ranks()),
        place_(static_cast<int>(std::ranges::find(order_, rank) - order_.begin())) {}

  // Ends with the sum of slice `rank` in `result`, at level last_sum_level().
  void reduce_scatter(const Operand& result) {
    for (int hop = 1; hop < ranks_; ++hop) {
      const int owner = behind(hop);
      if (plan_.elems_of(owner) > 0) pass_on(hop, owner);
      const int next = behind(hop + 1);
      if (plan_.elems_of(next) == 0) continue;
      partial_ = plan_.scratch(Codec::kTensor, plan_.elems_of(next));
      plan_.recv(2 * hop, behind(1), Phase::kPartial, next, plan_.elems_of(next), partial_);
    }
    if (plan_.elems_of(plan_.rank()) == 0) return;
    std::vector<Operand> sources;
    if (ranks_ > 1) sources.push_back(partial_);
    sources.push_back(plan_.own_source(plan_.input(plan_.rank(), true)));
    plan_.finish(last_sum_level(), plan_.elems_of(plan_.rank()), std::move(sources), result);
  }

  // From slice `rank` in `own` to all slices in Output.
  void all_gather(int level, const Operand& own) {
    for (int hop = 1; hop < ranks_; ++hop) {
      const int owner = behind(hop - 1), next = behind(hop);
      const Operand held = hop == 1 ? own : plan_.output(owner, true);
      if (plan_.elems_of(owner) > 0)
        plan_.send(level + hop, behind(-1), Phase::kSpread, owner, plan_.elems_of(owner), held);
      if (plan_.elems_of(next) > 0)
        plan_.recv(level + hop, behind(1), Phase::kSpread, next, plan_.elems_of(next),
                   plan_.output(next, true));
    }
  }

  [[nodiscard]] int last_sum_level() const { return 2 * ranks_; }
  [[nodiscard]] PlanWriter& plan() { return plan_; }

 private:
  // The rank that many places behind this one.
  [[nodiscard]] int behind(int places) const {
    return order_[static_cast<size_t>((place_ - places + ranks_) % ranks_)];
  }

  // Adds the own input to what came, and sends it on.
  void pass_on(int hop, int owner) {
    const uint64_t elems = plan_.elems_of(owner);
    const Operand own = plan_.own_source(plan_.input(owner, true));
    Operand what = own;
    if (hop > 1) {
      what = partial_;
      plan_.fold(2 * hop - 1, elems, {partial_, own}, what);
    } else if (own.scaled) {
      what = plan_.scratch(Codec::kTensor, elems);
      plan_.fold(1, elems, {own}, what);
    }
    plan_.send(2 * hop, behind(-1), Phase::kPartial, owner, elems, what);
  }

  PlanWriter plan_;
  std::vector<int> order_;
  int ranks_, place_;
  Operand partial_{};  // what came last
};

}  // namespace

std::vector<int> order(const Topology& topology) {
  std::vector<int> ranks;
  for (int node = 0; node < topology.nodes(); ++node) {
    const auto members = topology.members(node);
    ranks.insert(ranks.end(), members.begin(), members.end());
  }
  return ranks;
}

bool fits(const Shape& shape, const Topology&) {
  return !is_reduction(shape.op) || shape.type == ncclFloat32 ||
         quant::wide_codec(shape.type) == Codec::kTensor;
}

Plan plan_all_gather(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                     bool in_place) {
  Ring ring(shape, topology, rank);
  if (ring.plan().elems_of(rank) == 0) return {};
  const Operand own = ring.plan().input(rank, false);
  if (!in_place)
    ring.plan().fold(0, ring.plan().elems_of(rank), {own}, ring.plan().output(rank, true));
  ring.all_gather(0, own);
  return ring.plan().take();
}

Plan plan_reduce_scatter(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                         bool in_place) {
  if (nothing_to_do(shape, topology, in_place)) return {};
  Ring ring(shape, topology, rank);
  ring.reduce_scatter(ring.plan().output(rank, false));
  return ring.plan().take();
}

Plan plan_all_reduce(const Shape& shape, const Topology& topology, const Codecs&, int rank,
                     bool in_place) {
  if (nothing_to_do(shape, topology, in_place)) return {};
  Ring ring(shape, topology, rank);
  const Operand slot = ring.plan().output(rank, true);
  ring.reduce_scatter(slot);
  ring.all_gather(ring.last_sum_level(), slot);
  return ring.plan().take();
}

WireBytes wire_bytes(const Shape& shape, const Topology& topology, const Codecs&) {
  const std::vector<int> places = order(topology);
  const auto ranks = topology.ranks();
  const auto size_of = [&](size_t place) {
    return slice_elems(shape, ranks, places[place % places.size()]) * quant::type_bytes(shape.type);
  };
  uint64_t all = 0;
  for (size_t place = 0; place < places.size(); ++place) all += size_of(place);
  WireBytes bytes;
  for (size_t place = 0; place < places.size() && ranks > 1; ++place) {
    const bool crosses =
        topology.node_of(places[place]) != topology.node_of(places[(place + 1) % places.size()]);
    uint64_t& tier = crosses ? bytes.between_nodes : bytes.in_node;
    if (shape.op != Collective::kAllGather) tier += all - size_of(place);  // all sums but its own
    if (shape.op != Collective::kReduceScatter) tier += all - size_of(place + 1);
  }
  return bytes;
}

Load load(const Shape& shape, const Topology& topology, const Codecs&) {
  const int passes = shape.op == Collective::kAllReduce ? 2 : 1;
  const int hops = passes * (topology.ranks() - 1);
  const int crossings = topology.nodes() > 1 ? std::min(hops, passes * topology.nodes()) : 0;
  const auto messages = static_cast<uint64_t>(hops);
  const uint64_t bytes = slice_stride(shape, topology.ranks()) * quant::type_bytes(shape.type);
  Load load;
  load.steps_in_node = hops - crossings;
  load.steps_between_nodes = crossings;
  (crossings > 0 ? load.messages_between_nodes : load.messages_in_node) = messages;
  load.peers_between_nodes = crossings > 0 ? 1 : 0;
  load.busiest_node_bytes = crossings > 0 ? messages * bytes : 0;
  return load;
}

uint64_t scratch_messages(const Shape& shape, const Topology& topology) {
  return is_reduction(shape.op) ? static_cast<uint64_t>(topology.ranks()) + 1 : 1;
}

}  // namespace slimccl::collectives::ring
