// Whether a call would be compressed, and what that would save. Pure, so that all ranks conclude
// alike: from the call's own arguments and from what they agreed on at set-up.
#pragma once

#include <cstdint>

#include "core/counts.h"
#include "slimccl/nccl.h"
#include "topology/topology.h"

namespace slimccl::overlay {

// Equal on all ranks that agreed.
struct Policy {
  bool audits = false;  // false: profile exact
  uint64_t floor_elems = 65536;
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

// `standing`: kCompressible if the communicator's ranks agreed that it may compress, else why not.
// `windowed`: one of the buffers is registered as a window.
[[nodiscard]] Reason classify(const Call& call, const Policy& policy, Reason standing, int ranks,
                              bool windowed);

// Bytes that `rank` sends to other nodes in a call that is kCompressible, by the two-level scheme.
struct Savings {
  uint64_t exact_bytes, compressed_bytes;

  bool operator==(const Savings&) const = default;
};
[[nodiscard]] Savings savings(const Call& call, const topology::Topology& topology, int rank);

// Bytes of one element, 0 for a type that this version does not know.
[[nodiscard]] uint64_t element_bytes(ncclDataType_t type) noexcept;

}  // namespace slimccl::overlay
