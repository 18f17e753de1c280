// Which row and codecs a call takes: a pure function of the call, the topology and what all ranks
// agreed on, so that every rank decides alike. Default-deny: what the profile does not name stays
// exact, and the reason is kept.
#pragma once

#include <string>
#include <string_view>

#include "collectives/catalog.h"

namespace slimccl::collectives {

// Agreed by all ranks at set-up; equal everywhere.
struct Policy {
  std::string profile = "exact";  // "exact" or "zeropp"
  std::string overrides;          // "reduce_scatter=exact,all_gather=two_hop"
  uint64_t floor_elems = 65536;
  double net_bytes_per_s = 1.25e9;
};

struct Choice {
  const Row* row;
  Codecs codecs;
  // Why, in two forms: a kind to count calls by (one of a few constant texts), and one line with
  // the numbers, for people.
  std::string_view kind;
  std::string reason;
};

// `paused`: the trainer wants exact calls for now, on all ranks.
[[nodiscard]] Choice select(const Shape& shape, const Topology& topology, const Policy& policy,
                            bool paused = false);

// Throws Error if the text does not parse or names rows that do not exist.
void check_overrides(const std::string& overrides);

// What compression means for an operation (profile zeropp): the tensor's own type where nothing is.
[[nodiscard]] Codecs codecs_of_profile(Collective op);

// The row that `overrides` names for this operation; empty if none.
[[nodiscard]] std::string_view overridden_row(Collective op, std::string_view overrides);

// What the cost model takes the ranks' machines to do. Assumed, not measured.
struct Rates {
  double codec_bytes_per_s;  // of fp32 encoded and decoded
  double node_bytes_per_s;   // from ranks to the others of their node
  double lossy_start_s;      // what a compressed call costs besides: kernels to launch
  bool each_rank;            // each rank of a node has that rate in it, or all of them share it
};
// One core's codec and copy speed.
inline constexpr Rates kHostRates{20e9, 4e9, 0, false};
// Of a GPU of this decade, nothing of it measured here: codecs at a third of a memory bandwidth of
// 3e12 bytes/s, two thirds of NVLink in the node, some ten launches of 5 us. With a slower node, as
// PCIe is, compression would be worth while inside the node alone, which is not what it is for.
inline constexpr Rates kGpuRates{1e12, 300e9, 50e-6, true};

// The cost model's estimate: bytes over each tier's rate, plus the codecs' work, plus latencies.
[[nodiscard]] double estimated_seconds(const Row& row, const Shape& call, const Topology& topology,
                                       const Codecs& codecs, double net_bytes_per_s,
                                       const Rates& rates = kHostRates);

}  // namespace slimccl::collectives
