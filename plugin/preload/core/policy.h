// Whether a call is compressed, how, and what that saves. Pure, so that all ranks conclude alike:
// from the call's own arguments and from what they agreed on. docs/policy.md says it for people.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/config.h"
#include "collectives/catalog.h"
#include "core/counts.h"
#include "core/rules.h"
#include "slimccl/nccl.h"
#include "topology/topology.h"

namespace slimccl::overlay {

enum class Profile : uint8_t { kExact, kAudit, kAuto, kZeropp };
[[nodiscard]] std::string_view name(Profile profile);
// Throws Error for a name that is none.
[[nodiscard]] Profile profile_from_name(std::string_view name);

// Raise it with what decide() and why_exact_by_name() conclude: ranks of different ones are exact.
constexpr int kDecisionsVersion = 2;

// Equal on all ranks that agreed: settings_text() has all of it.
struct Policy {
  Profile profile = Profile::kExact;
  uint64_t floor_elems = 65536;
  double net_bytes_per_s = 1.25e9;  // between two nodes
  std::string algo{};               // SLIMCCL_ALGO: rows of the catalogue by operation
  std::vector<Rule> rules{};

  [[nodiscard]] bool audits() const noexcept { return profile == Profile::kAudit; }
  [[nodiscard]] bool compresses() const noexcept {
    return profile == Profile::kAuto || profile == Profile::kZeropp;
  }
};
// Reads the file of rules, if one is named. Throws Error if a setting cannot be used.
[[nodiscard]] Policy policy_from(const Config& settings);

// A call, in the words of the C interface. Send and recv, and what has no reduction: ncclSum.
struct Call {
  Operation op;
  uint64_t count;
  ncclDataType_t type;
  ncclRedOp_t reduction = ncclSum;
  int root = 0;
};

// Whether the buffers overlap as NCCL allows it: the same one, or a rank's own slice of the larger.
[[nodiscard]] bool in_place(const Call& call, int rank, const void* from, const void* into);

// What a call's fate depends on besides its own arguments: alike on all ranks.
struct Facts {
  Reason standing = Reason::kNotAgreed;  // kCompressible: the ranks agreed that it may compress
  int ranks = 0;
  bool windowed = false;                         // one of the buffers is registered as a window
  bool capturing = false;                        // the stream is being captured
  bool paused = false;                           // by slimcclPause
  std::string_view comm{};                       // the communicator's name
  const topology::Topology* topology = nullptr;  // null: no estimate of what is faster
};

// What the ranks know of a kind of call (evidence.h).
enum class Evidence : uint8_t { kNone, kPromoted, kDemoted };

struct Decision {
  // kCompressed, kCompressible (profile audit), or why the call is exact.
  Reason reason = Reason::kNotAgreed;
  // How a compressed call travels; null: exact.
  const collectives::Row* row = nullptr;
  collectives::Codecs codecs{};
  // `reason` holds if the evidence allows; ask for it with after_evidence().
  bool asks_evidence = false;
  bool ruled_gradients = false;  // a rule says that it carries gradients
};
// Worth keeping: the estimate takes longer than a call should.
[[nodiscard]] Decision decide(const Call& call, const Policy& policy, const Facts& facts);
// Whether its all-gathers, if they are compressed, take a communicator of each node.
[[nodiscard]] bool gathers_in_nodes(const Policy& policy, const topology::Topology& topology);
// The outcome. Under auto a kind of call must have been promoted, under zeropp not demoted.
[[nodiscard]] Reason after_evidence(const Decision& decision, Profile profile, Evidence evidence);

// How a compressed call travels. As weights: q8. As gradients: sums between nodes in q4s; the
// finished sums of an all-reduce in q8, under zeropp in q4s. What is gathered is never coarser than
// q8. Without a rule, all-gathers are weights and the others gradients.
[[nodiscard]] collectives::Codecs codecs_of(Profile profile, Operation op,
                                            std::optional<Treat> treat = {});

// Elements of one rank's slice: what the floor and the rules count.
[[nodiscard]] uint64_t elems_per_rank(const Call& call, int ranks);

// Under zeropp and audit: why nothing of a communicator is compressed, if its name says that
// activations travel by it and no rule is for that name, nor has all names compressed. Else empty.
[[nodiscard]] std::string why_exact_by_name(const Policy& policy, std::string_view comm);

// A warning, if the name says so and a rule for all names has some of its calls compressed. Else
// empty.
[[nodiscard]] std::string blanket_warning(const Policy& policy, std::string_view comm);

// Under slimccl-run, whose word to its hooks is `run` (SLIMCCL_RUN): a warning, if it was asked for
// a profile that compresses and no hooks have set SLIMCCL_PROFILE here. Else empty.
[[nodiscard]] std::string hookless_warning(std::string_view run, bool profile_is_set);

// Bytes that `rank` sends to other nodes in a call that is compressed or would be, by the two-level
// scheme.
struct Savings {
  uint64_t exact_bytes, compressed_bytes;

  bool operator==(const Savings&) const = default;
};
[[nodiscard]] Savings savings(const Call& call, const collectives::Codecs& codecs,
                              const topology::Topology& topology, int rank);

// The catalogue's word for an operation that may be compressed.
[[nodiscard]] collectives::Collective collective_of(Operation op);

// Bytes of one element, 0 for a type that this version does not know.
[[nodiscard]] uint64_t element_bytes(ncclDataType_t type) noexcept;

}  // namespace slimccl::overlay
