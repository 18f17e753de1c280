#include "collectives/select.h"

#include <algorithm>
#include <string_view>

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
    check(equals != std::string_view::npos, ncclInvalidUsage, "SLIMCCL_ALGO: \"", item,
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

// Why no lossy row may carry the call; empty if one may.
std::string reason_for_exact(const Shape& shape, const Topology& topology, const Policy& policy) {
  if (policy.profile == "exact") return "the profile is exact";
  if (topology.nodes() == 1) return "all ranks are on one node";
  if (!quant::is_float(shape.type))
    return concat(quant::type_name(shape.type), " is never compressed");
  const uint64_t elems = slice_stride(shape, topology.ranks());
  if (elems < policy.floor_elems) {
    return concat(elems, " elements per rank are under the floor of ", policy.floor_elems);
  }
  return "";
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
  for_each_override(overrides,
                    [](Collective op, std::string_view row) { (void)find_row(op, row); });
}

Choice select(const Shape& shape, const Topology& topology, const Policy& policy) {
  const auto estimate = [&](const Row& row, const Codecs& codecs) {
    return estimated_seconds(row, shape, topology, codecs, policy.net_bytes_per_s);
  };
  const Row& exact_row = find_row(shape.op, "exact");
  Choice best{&exact_row, {}, reason_for_exact(shape, topology, policy), estimate(exact_row, {})};
  if (!best.reason.empty()) return best;
  const Codecs codecs = codecs_of_profile(shape.op);
  const double exact_seconds = best.seconds;
  const std::string_view forced = overridden_row(shape.op, policy.overrides);
  best.reason = concat("exact is estimated fastest, ", exact_seconds * 1e3, " ms");
  for (const Row& row : catalog()) {
    if (row.op != shape.op || !row.fits(shape, topology)) continue;
    const double seconds = estimate(row, codecs);
    if (forced.empty() ? row.lossy && seconds < best.seconds : row.name == forced) {
      best = {&row, row.lossy ? codecs : Codecs{}, "", seconds};
      best.reason = forced.empty() ? concat("estimated ", seconds * 1e3, " ms against ",
                                            exact_seconds * 1e3, " ms exact")
                                   : concat("SLIMCCL_ALGO asks for ", forced);
    }
  }
  return best;
}

}  // namespace slimccl::collectives
