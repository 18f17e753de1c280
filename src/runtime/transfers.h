// Point-to-point messages of one group, all under way at once. The n-th send to a peer meets the
// n-th receive from us there, over the life of the communicator. Owned by the engine's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "collectives/catalog.h"
#include "runtime/router.h"

namespace slimccl::runtime {

struct Transfer {
  enum class Kind : uint8_t { kSend, kRecv, kCopy };  // copy: from this rank to itself
  Kind kind;
  int peer;
  const std::byte* from;  // send, copy
  std::byte* into;        // recv, copy
  uint64_t bytes;
  ncclDataType_t type;  // both sides' must be equal; looked at by SLIMCCL_CHECK
};

class TransferExecutor {
 public:
  // checks: a note of type and size goes ahead of every message, and is compared.
  // confirms: a receiver sends a note when it waits for a message, and the sender is not done
  // before it has that. Not both; the same on all ranks.
  TransferExecutor(const topology::Topology& topology, int rank, Router& router, bool checks,
                   bool confirms = false)
      : topology_(topology), rank_(rank), router_(router), checks_(checks), confirms_(confirms) {}

  // Must be idle. Copies are done at once.
  void start(const std::vector<Transfer>& transfers);
  [[nodiscard]] bool idle() const noexcept { return pending_.empty(); }
  // True if anything moved. A failed message ends it all: failure(), or mismatch().
  bool progress();
  [[nodiscard]] const std::optional<transport::PeerFailure>& failure() const noexcept {
    return failure_;
  }
  // What SLIMCCL_CHECK found; empty if nothing.
  [[nodiscard]] const std::string& mismatch() const noexcept { return mismatch_; }
  [[nodiscard]] std::string waiting_for() const;
  // Forgets all; the router must have been aborted first.
  void drop() noexcept { pending_.clear(); }
  [[nodiscard]] const collectives::WireBytes& sent() const noexcept { return sent_; }

 private:
  struct Note {
    uint64_t bytes;
    uint64_t type;
  };
  struct Pending {
    Transfer transfer;
    uint64_t number;  // of this peer and direction
    bool noting;      // the note is under way, or was sent along
    Note note;
    Router::Handle handle, note_handle;
  };

  void post(Pending& pending);
  [[nodiscard]] bool compare(Pending& pending);
  // True when it is done.
  bool step(Pending& pending, bool& moved);

  const topology::Topology& topology_;
  int rank_;
  Router& router_;
  bool checks_, confirms_;
  std::unordered_map<int, uint64_t> sends_to_, recvs_from_;
  std::vector<std::unique_ptr<Pending>> pending_;  // notes must stay where they are
  std::optional<transport::PeerFailure> failure_;
  std::string mismatch_;
  collectives::WireBytes sent_;
};

}  // namespace slimccl::runtime
