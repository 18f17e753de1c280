#include "collectives/select.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace slimccl::collectives {
namespace {

// Assumed until they are measured at set-up: one core's codec and copy speed, and the time of one
// message.
constexpr double kCodecBytesPerSecond = 20e9;  // of fp32
constexpr double kNodeBytesPerSecond = 4e9;
constexpr double kSecondsPerHop = 50e-6;

Codecs codecs_of_profile(Collective op) {
  switch (op) {
    case Collective::kAllGather:
      return {Codec::kTensor, Codec::kQ8};
    case Collective::kReduceScatter:
      return {Codec::kQ4s, Codec::kTensor};
    case Collective::kAllReduce:
      break;
  }
  return {Codec::kQ4s, Codec::kQ4s};
}

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

std::string_view overridden_row(Collective op, std::string_view overrides) {
  std::string_view row;
  for_each_override(overrides, [&](Collective named, std::string_view name) {
    if (named == op) row = name;
  });
  return row;
}

// Fills in why no lossy row may carry the call; false if one may.
bool stays_exact(const Shape& shape, const Topology& topology, const Policy& policy, Choice& why) {
  const auto because = [&](std::string_view kind, std::string reason) {
    why.kind = kind;
    why.reason = std::move(reason);
    return true;
  };
  if (policy.profile == "exact") return because("profile exact", "the profile is exact");
  if (topology.nodes() == 1) return because("one node", "all ranks are on one node");
  if (!quant::is_float(shape.type)) {
    return because("type", concat(quant::type_name(shape.type), " is never compressed"));
  }
  const uint64_t elems = slice_stride(shape, topology.ranks());
  if (elems >= policy.floor_elems) return false;
  return because("under the floor",
                 concat(elems, " elements per rank are under the floor of ", policy.floor_elems));
}

// Elements that one rank encodes and decodes: partials for as many slices as there are other nodes,
// and back; in a gather its own slice, and everybody's back.
double coded_elems(const Shape& shape, const Topology& topology) {
  double slices = 0;
  if (shape.op != Collective::kAllGather) slices += 2.0 * (topology.nodes() - 1);
  if (shape.op != Collective::kReduceScatter) slices += 1.0 + topology.ranks();
  return slices * static_cast<double>(slice_stride(shape, topology.ranks()));
}

}  // namespace

double estimated_seconds(const Row& row, const Shape& shape, const Topology& topology,
                         const Codecs& codecs, double net_bytes_per_s) {
  const Codecs used = row.lossy ? codecs : Codecs{};
  uint64_t busiest = 0;
  for (int node = 0; node < topology.nodes(); ++node) {
    busiest = std::max(busiest, node_out_bytes(shape, topology, used, node));
  }
  const WireBytes bytes = row.wire_bytes(shape, topology, used);
  const double per_node = static_cast<double>(bytes.in_node) / topology.nodes();
  double seconds = 4 * kSecondsPerHop + static_cast<double>(busiest) / net_bytes_per_s +
                   per_node / kNodeBytesPerSecond;
  if (row.lossy) seconds += sizeof(float) * coded_elems(shape, topology) / kCodecBytesPerSecond;
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

Choice select(const Shape& shape, const Topology& topology, const Policy& policy) {
  const Row& exact_row = find_row(shape.op, "exact");
  Choice best{&exact_row, {}, "", ""};
  if (stays_exact(shape, topology, policy, best)) return best;
  const Codecs codecs = codecs_of_profile(shape.op);
  const std::string_view forced = overridden_row(shape.op, policy.overrides);
  if (!forced.empty()) {
    const Row& row = find_row(shape.op, forced);
    const std::string_view kind = row.lossy ? "compressed" : "SLIMCCL_ALGO";
    return {&row, row.lossy ? codecs : Codecs{}, kind, concat("SLIMCCL_ALGO asks for ", forced)};
  }
  const auto estimate = [&](const Row& row) {
    return estimated_seconds(row, shape, topology, codecs, policy.net_bytes_per_s);
  };
  const double exact_seconds = estimate(exact_row);
  double best_seconds = exact_seconds;
  best.kind = "exact is faster";
  for (const Row& row : catalog()) {
    if (row.op != shape.op || !row.lossy || !row.fits(shape, topology)) continue;
    if (const double seconds = estimate(row); seconds < best_seconds) {
      best = {&row, codecs, "compressed", ""};
      best_seconds = seconds;
    }
  }
  best.reason = concat("estimated ", best_seconds * 1e3, " ms, exact ", exact_seconds * 1e3, " ms");
  return best;
}

}  // namespace slimccl::collectives
