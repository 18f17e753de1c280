// Whether a call would be compressed, and what that would save. Pure, so that all ranks conclude
// alike: from the call's own arguments and from what they agreed on at set-up.
#pragma once

#include <cstdint>
#include <string_view>

#include "collectives/plan.h"
#include "core/counts.h"
#include "slimccl/nccl.h"
#include "topology/topology.h"

namespace slimccl::overlay {

enum class Profile : uint8_t { kExact, kAudit, kAuto, kZeropp };
// Throws Error for a name that is none.
[[nodiscard]] Profile profile_from_name(std::string_view name);

// Equal on all ranks that agreed.
struct Policy {
  Profile profile = Profile::kExact;
  uint64_t floor_elems = 65536;

  [[nodiscard]] bool audits() const noexcept { return profile == Profile::kAudit; }
  [[nodiscard]] bool compresses() const noexcept {
    return profile == Profile::kAuto || profile == Profile::kZeropp;
  }
};

// A call, in the words of the C interface. Send and recv, and what has no reduction: ncclSum.
struct Call {
  Operation op;
  uint64_t count;
  ncclDataType_t type;
  ncclRedOp_t reduction = ncclSum;
  int root = 0;
};

// What a call carries, as the profile zeropp takes it.
enum class Class : uint8_t { kWeights, kGradients, kUnknown };
[[nodiscard]] Class class_of(Operation op);

// What a call's fate depends on besides its own arguments: alike on all ranks.
struct Facts {
  Reason standing = Reason::kNotAgreed;  // kCompressible: the ranks agreed that it may compress
  int ranks = 0;
  bool windowed = false;   // one of the buffers is registered as a window
  bool capturing = false;  // the stream is being captured
  bool paused = false;     // by slimcclPause
};

// kCompressed, kCompressible (profile audit), or why the call is exact.
[[nodiscard]] Reason classify(const Call& call, const Policy& policy, const Facts& facts);

// How a compressed call travels: q8 weights, q4s gradients; the finished sums of an all-reduce in
// q8, under zeropp in q4s.
[[nodiscard]] collectives::Codecs codecs_of(Profile profile, Operation op);

// Bytes that `rank` sends to other nodes in a call that is compressed or would be, by the two-level
// scheme.
struct Savings {
  uint64_t exact_bytes, compressed_bytes;

  bool operator==(const Savings&) const = default;
};
[[nodiscard]] Savings savings(const Call& call, const Policy& policy,
                              const topology::Topology& topology, int rank);

// The catalogue's word for an operation that may be compressed.
[[nodiscard]] collectives::Collective collective_of(Operation op);

// Bytes of one element, 0 for a type that this version does not know.
[[nodiscard]] uint64_t element_bytes(ncclDataType_t type) noexcept;

}  // namespace slimccl::overlay
