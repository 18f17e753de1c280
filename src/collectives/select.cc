#include "collectives/select.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace slimccl::collectives {
namespace {

// Assumed until it is measured at set-up: the time of one message.
constexpr double kSecondsPerStep[] = {10e-6, 50e-6};    // in a node, between nodes
constexpr double kSecondsPerMessage[] = {2e-6, 15e-6};  // likewise; of the rank that sends most

// Calls body(operation, row) for each "operation=row" of the list.
template <class Body>
void for_each_override(std::string_view text, Body&& body) {
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    const size_t equals = item.find('=');
    check(equals != std::string_view::npos, ncclInvalidUsage, "\"", item,
          "\" is not of the form operation=row, e.g. reduce_scatter=exact");
    body(collective_from_name(item.substr(0, equals)), item.substr(equals + 1));
  }
}

// Fills in why no lossy row may carry the call; false if one may.
bool stays_exact(const Shape& shape, const Topology& topology, const Policy& policy, bool paused,
                 Choice& why) {
  const auto because = [&](std::string_view kind, std::string reason) {
    why.kind = kind;
    why.reason = std::move(reason);
    return true;
  };
  if (policy.profile == "exact") return because("profile exact", "the profile is exact");
  if (topology.nodes() == 1) return because("one node", "all ranks are on one node");
  if (has_root(shape.op)) return because("operation", concat(name(shape.op), " stays exact"));
  if (!quant::is_float(shape.type)) {
    return because("type", concat(quant::type_name(shape.type), " is never compressed"));
  }
  if (shape.reduction != Reduction::kSum) {
    return because("reduction", concat(quant::name(shape.reduction), " is never compressed"));
  }
  const uint64_t elems = slice_stride(shape, topology.ranks());
  if (elems < policy.floor_elems) {
    return because("under the floor",
                   concat(elems, " elements per rank are under the floor of ", policy.floor_elems));
  }
  return paused && because("paused", "slimcclPause holds compression back");
}

// Elements that one rank encodes and decodes: partials for as many slices as there are other nodes,
// and back; in a gather its own slice, and everybody's back.
double coded_elems(const Shape& shape, const Topology& topology) {
  double slices = 0;
  if (shape.op != Collective::kAllGather) slices += 2.0 * (topology.nodes() - 1);
  if (shape.op != Collective::kReduceScatter) slices += 1.0 + topology.ranks();
  return slices * static_cast<double>(slice_stride(shape, topology.ranks()));
}

// Streams to several nodes at once get in each other's way. Measured on pretended nodes of one
// rank, all-gathers and reduce-scatters of 4 MiB at 1 Gbit/s: 4 % with two peers, 9 % with three,
// 12 % with five.
double contention(const Load& load) {
  constexpr double kPerPeer = 0.03, kMost = 0.15;
  const double others = static_cast<double>(std::max<uint64_t>(load.peers_between_nodes, 1)) - 1;
  return 1 + std::min(kPerPeer * others, kMost);
}

}  // namespace

std::string_view overridden_row(Collective op, std::string_view overrides) {
  std::string_view row;
  for_each_override(overrides, [&](Collective named, std::string_view name) {
    if (named == op) row = name;
  });
  return row;
}

Codecs codecs_of_profile(Collective op) {
  switch (op) {
    case Collective::kAllGather:
      return {Codec::kTensor, Codec::kQ8};
    case Collective::kReduceScatter:
      return {Codec::kQ4s, Codec::kTensor};
    case Collective::kAllReduce:
      return {Codec::kQ4s, Codec::kQ4s};
    case Collective::kBroadcast:
    case Collective::kReduce:
      break;
  }
  return {};
}

double estimated_seconds(const Row& row, const Shape& call, const Topology& topology,
                         const Codecs& codecs, double net_bytes_per_s, const Rates& rates) {
  const Codecs used = row.lossy ? codecs : Codecs{};
  const Shape shape = cut_by(row, call);
  const Load load = row.load(shape, topology, used);
  const WireBytes bytes = row.wire_bytes(shape, topology, used);
  const auto links = static_cast<double>(rates.each_rank ? topology.largest_node() : 1);
  const double per_link = static_cast<double>(bytes.in_node) / topology.nodes() / links;
  // The busiest link decides, and the average one too: of two rows that load one link alike, the
  // one that sends less in all is better company to whatever else the network carries.
  const double across = (static_cast<double>(load.busiest_node_bytes) +
                         static_cast<double>(bytes.between_nodes) / topology.nodes()) /
                        2;
  double seconds = load.steps_in_node * kSecondsPerStep[0] +
                   load.steps_between_nodes * kSecondsPerStep[1] +
                   static_cast<double>(load.messages_in_node) * kSecondsPerMessage[0] +
                   static_cast<double>(load.messages_between_nodes) * kSecondsPerMessage[1] +
                   contention(load) * across / net_bytes_per_s + per_link / rates.node_bytes_per_s;
  if (row.lossy) {
    seconds += rates.lossy_start_s +
               sizeof(float) * coded_elems(shape, topology) / rates.codec_bytes_per_s;
  }
  return seconds;
}

void check_overrides(const std::string& overrides) {
  try {
    for_each_override(overrides,
                      [](Collective op, std::string_view row) { (void)find_row(op, row); });
  } catch (const Error& error) {
    throw Error(ncclInvalidUsage, concat("SLIMCCL_ALGO=\"", overrides, "\": ", error.what()));
  }
}

Choice select(const Shape& shape, const Topology& topology, const Policy& policy, bool paused) {
  Choice best{nullptr, {}, "", ""};
  const bool exact = stays_exact(shape, topology, policy, paused, best);
  const Codecs codecs = codecs_of_profile(shape.op);
  const auto usable = [&](const Row& row) {
    return row.op == shape.op && row.fits(shape, topology) && !(exact && row.lossy);
  };
  const std::string_view forced = overridden_row(shape.op, policy.overrides);
  if (!forced.empty() && usable(find_row(shape.op, forced))) {
    const Row& row = find_row(shape.op, forced);
    if (!exact) best.kind = row.lossy ? "compressed" : "SLIMCCL_ALGO";
    const std::string why = exact ? concat(best.reason, "; ") : "";
    return {&row, row.lossy ? codecs : Codecs{}, best.kind,
            concat(why, "SLIMCCL_ALGO asks for ", forced)};
  }
  // Which exact row. The network's rate is assumed, and what is saved by sending more bytes in
  // fewer steps is little: so a quarter of the rate must do.
  double best_seconds = 0;
  const auto consider = [&](bool lossy, double rate) {
    for (const Row& row : catalog()) {
      if (row.lossy != lossy || row.on_request || !usable(row)) continue;
      const double seconds = estimated_seconds(row, shape, topology, codecs, rate);
      if (best.row != nullptr && seconds >= best_seconds) continue;
      best.row = &row;
      best_seconds = seconds;
    }
  };
  consider(false, policy.net_bytes_per_s / 4);
  ensure(best.row != nullptr, "no row carries ", name(shape.op));
  const double exact_seconds =
      estimated_seconds(*best.row, shape, topology, codecs, policy.net_bytes_per_s);
  best_seconds = exact_seconds;
  consider(true, policy.net_bytes_per_s);
  best.codecs = best.row->lossy ? codecs : Codecs{};
  if (exact) return best;
  best.kind = best.row->lossy ? "compressed" : "exact is faster";
  best.reason = concat("estimated ", best_seconds * 1e3, " ms, exact ", exact_seconds * 1e3, " ms");
  return best;
}

}  // namespace slimccl::collectives
