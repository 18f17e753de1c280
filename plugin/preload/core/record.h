// What the ranks of a communicator tell each other once the real NCCL has made it, and what follows
// from it for all alike. Pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "core/policy.h"
#include "slimccl/nccl.h"
#include "topology/topology.h"

namespace slimccl::overlay {

// One rank's word.
struct Record {
  std::string version;   // of SlimCCL: all must be equal, or nothing else of it can be read
  std::string messages;  // versions of what ranks would send each other
  std::string node;      // identity of the node: equal strings share a node
  std::string nvlink;    // its NVLink domain; empty: not known
  std::string settings;  // those that must be equal, as text: "profile=audit floor=65536 ..."
  std::string name;      // of the communicator, from its config
  std::string kernels;   // load_kernels(): "ok", "not tried", or what went wrong
  std::string host;      // for messages to people
  std::string family;    // the id under which this rank's process serves later meetings
  uint64_t arena_bytes = 0;
  int32_t nccl_version = 0;  // of the real NCCL
  uint32_t checks = 0;       // SLIMCCL_CHECK
};

[[nodiscard]] std::vector<std::byte> to_bytes(const Record& record);
// Of another version only `version` is read. Throws Error if the bytes are no record.
[[nodiscard]] Record record_from_bytes(ConstBytes bytes, std::string_view own_version);

// The settings' part of a record: all that decides whether and how a call is compressed.
[[nodiscard]] std::string settings_text(const Policy& policy);

// What all ranks conclude.
struct Verdict {
  Reason standing = Reason::kNotAgreed;  // kCompressible: calls of it may be compressed
  std::string why{};                     // one line for people
  bool warns = false;                    // `why` is a mistake that somebody should hear of
  std::optional<topology::Topology> topology{};
  bool checks = false;                   // every call's arguments are compared first
  std::vector<ncclUniqueId> families{};  // by rank: where splits and shrinks may meet
  uint64_t arena_bytes = 0;              // the least of all ranks
  std::optional<std::string> name{};     // rank 0's: rules go by it on all ranks
  std::string names_differ{};            // who calls it what; empty: all alike
};
// Records by rank, at least one.
[[nodiscard]] Verdict agree(std::span<const Record> records);

// The text of a failed meeting as a warning that says what to do.
[[nodiscard]] std::string explain_failure(std::string_view failure);
// The lowest rank that a failure's text ("ranks 0, 2-3 of 8 did not ...") does not name: it speaks
// for all. 0 if no ranks are named.
[[nodiscard]] int speaker(std::string_view failure);

}  // namespace slimccl::overlay
