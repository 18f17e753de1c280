#include "collectives/verify.h"

#include <map>
#include <tuple>

#include "base/error.h"

namespace slimccl::collectives {
namespace {

// Bytes from a region's first to its last, as seen from the segment's first element.
uint64_t region_bytes(Region region, const Plan& plan, const Shape& shape, int ranks) {
  const uint64_t skipped = shape.begin * quant::type_bytes(shape.type);
  const auto rest = [&](uint64_t bytes) { return bytes - std::min(bytes, skipped); };
  switch (region) {
    case Region::kInput:
      return rest(input_bytes(shape, ranks));
    case Region::kOutput:
      return rest(output_bytes(shape, ranks));
    case Region::kScratch:
      break;
  }
  return plan.scratch_bytes;
}

std::string check_operand(const Operand& operand, uint64_t elems, const Plan& plan,
                          const Shape& shape, int ranks) {
  const Slice& slice = operand.slice;
  if (slice.offset + slice.bytes > region_bytes(slice.region, plan, shape, ranks))
    return "a slice is out of bounds";
  if (slice.region == Region::kScratch && slice.offset % quant::kMessageAlign != 0)
    return "scratch is misaligned";
  if (slice.bytes != quant::encoded_bytes(operand.codec, shape.type, elems))
    return "a slice has the wrong size";
  return "";
}

// A node of the union graph: one step, or a send and its receive.
struct Graph {
  std::vector<std::vector<size_t>> next;
  std::vector<int> incoming;
  void edge(size_t from, size_t to) {
    next[from].push_back(to);
    ++incoming[to];
  }
};

using Key = std::tuple<int, int, uint32_t>;  // sender, receiver, tag

Key key_of(const Step& step, int rank) {
  return step.kind == Kind::kSend ? Key{rank, step.peer, step.tag} : Key{step.peer, rank, step.tag};
}

Graph union_graph(std::span<const Plan> plans, std::span<const Links> links) {
  std::map<Key, size_t> rendezvous;
  std::vector<std::vector<size_t>> node_of(plans.size());
  size_t nodes = 0;
  for (size_t rank = 0; rank < plans.size(); ++rank) {
    for (const Step& step : plans[rank].steps) {
      const bool message = step.kind == Kind::kSend || step.kind == Kind::kRecv;
      const size_t node =
          message
              ? rendezvous.try_emplace(key_of(step, static_cast<int>(rank)), nodes).first->second
              : nodes;
      if (node == nodes) ++nodes;
      node_of[rank].push_back(node);
    }
  }
  Graph graph{std::vector<std::vector<size_t>>(nodes), std::vector<int>(nodes)};
  for (size_t rank = 0; rank < plans.size(); ++rank) {
    for (size_t i = 0; i < plans[rank].steps.size(); ++i) {
      for (const uint32_t before : links[rank].after[i])
        graph.edge(node_of[rank][before], node_of[rank][i]);
    }
  }
  return graph;
}

// One rank's part of the gather that its plan speaks of.
std::string check_gather(const Plan& plan, const Topology& topology, int rank) {
  const auto& [level, from, to] = *plan.gather;
  const auto members = topology.members(topology.node_of(rank));
  if (to.bytes != from.bytes * members.size()) return "a gather has the wrong size";
  const auto part_of = [&, from = from, to = to](int member) {
    const auto local = static_cast<uint64_t>(topology.local_of(member));
    return Slice{to.region, to.offset + local * from.bytes, from.bytes};
  };
  if (from != part_of(rank)) return "a gather's own part is elsewhere";
  size_t messages = 0;
  for (const Step& step : plan.steps) {
    const bool sends = step.kind == Kind::kSend;
    if (step.level != level || (!sends && step.kind != Kind::kRecv)) continue;
    if (topology.node_of(step.peer) != topology.node_of(rank)) return "a gather leaves the node";
    if (sends && step.from.front().slice != from) return "a gather sends something else";
    if (!sends && step.to.slice != part_of(step.peer)) return "a gather receives elsewhere";
    ++messages;
  }
  return messages == 2 * (members.size() - 1) ? "" : "a gather's messages are too few or too many";
}

}  // namespace

uint64_t input_bytes(const Shape& shape, int ranks) {
  const uint64_t slices = shape.op == Collective::kReduceScatter ? static_cast<uint64_t>(ranks) : 1;
  return shape.count * slices * quant::type_bytes(shape.type);
}

uint64_t output_bytes(const Shape& shape, int ranks) {
  const uint64_t slices = shape.op == Collective::kAllGather ? static_cast<uint64_t>(ranks) : 1;
  return shape.count * slices * quant::type_bytes(shape.type);
}

std::string check_slices(const Plan& plan, const Shape& shape, int ranks) {
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const Step& step = plan.steps[i];
    std::string wrong;
    for (const Operand& source : step.from) {
      if (wrong.empty()) wrong = check_operand(source, step.elems, plan, shape, ranks);
    }
    if (wrong.empty() && step.kind != Kind::kSend)
      wrong = check_operand(step.to, step.elems, plan, shape, ranks);
    if (!wrong.empty()) return concat("step ", i, ": ", wrong);
  }
  return "";
}

std::string check_messages(std::span<const Plan> plans) {
  struct Message {
    uint64_t bytes;
    int level;
  };
  std::map<Key, Message> sends, recvs;
  for (size_t rank = 0; rank < plans.size(); ++rank) {
    for (const Step& step : plans[rank].steps) {
      if (step.kind != Kind::kSend && step.kind != Kind::kRecv) continue;
      const bool is_send = step.kind == Kind::kSend;
      const uint64_t bytes = (is_send ? step.from.front() : step.to).slice.bytes;
      const bool fresh =
          (is_send ? sends : recvs)
              .emplace(key_of(step, static_cast<int>(rank)), Message{bytes, step.level})
              .second;
      if (!fresh)
        return concat("rank ", rank, " uses tag ", step.tag, " with rank ", step.peer, " twice");
    }
  }
  for (const auto& [key, message] : sends) {
    const auto& [from, to, tag] = key;
    const auto match = recvs.find(key);
    const std::string what = concat("the message ", from, " -> ", to, " tag ", tag);
    if (match == recvs.end()) return what + " is never received";
    if (match->second.bytes != message.bytes) return what + " has different sizes at its ends";
    if (match->second.level != message.level) return what + " has different levels at its ends";
  }
  return sends.size() == recvs.size() ? "" : "a receive has no send";
}

std::string check_acyclic(std::span<const Plan> plans, std::span<const Links> links) {
  Graph graph = union_graph(plans, links);
  std::vector<size_t> ready;
  for (size_t node = 0; node < graph.next.size(); ++node) {
    if (graph.incoming[node] == 0) ready.push_back(node);
  }
  size_t done = 0;
  while (!ready.empty()) {
    const size_t node = ready.back();
    ready.pop_back();
    ++done;
    for (const size_t next : graph.next[node]) {
      if (--graph.incoming[next] == 0) ready.push_back(next);
    }
  }
  return done == graph.next.size()
             ? ""
             : concat(graph.next.size() - done, " steps wait for each other in a circle");
}

std::string check_levels(const Plan& plan, const Links& links) {
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    for (const uint32_t before : links.after[i]) {
      if (plan.steps[before].level >= plan.steps[i].level) {
        return concat("step ", i, " of level ", plan.steps[i].level, " waits for step ", before,
                      " of level ", plan.steps[before].level);
      }
    }
  }
  return "";
}

std::string check_gathers(std::span<const Plan> plans, const Topology& topology) {
  for (size_t rank = 0; rank < plans.size(); ++rank) {
    if (!plans[rank].gather) continue;
    const std::string wrong = check_gather(plans[rank], topology, static_cast<int>(rank));
    if (!wrong.empty()) return concat("rank ", rank, ": ", wrong);
    for (const int peer : topology.members(topology.node_of(static_cast<int>(rank)))) {
      const auto& theirs = plans[static_cast<size_t>(peer)].gather;
      if (!theirs || theirs->level != plans[rank].gather->level)
        return concat("rank ", peer, " does not gather with rank ", rank);
    }
  }
  return "";
}

WireBytes sent_bytes(std::span<const Plan> plans, const Topology& topology) {
  WireBytes bytes;
  for (size_t rank = 0; rank < plans.size(); ++rank) {
    for (const Step& step : plans[rank].steps) {
      if (step.kind != Kind::kSend) continue;
      const bool crosses = topology.node_of(static_cast<int>(rank)) != topology.node_of(step.peer);
      (crosses ? bytes.between_nodes : bytes.in_node) += step.from.front().slice.bytes;
    }
  }
  return bytes;
}

}  // namespace slimccl::collectives
