// The state that all ranks of one loopback communicator share; everything in it is guarded by
// `mutex`, except that buffers are copied without it (a pair being copied is in no map, and its
// rank waits for it before it goes).
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/handle.h"
#include "transport/matching.h"
#include "transport/tickets.h"
#include "transport/transport.h"

namespace slimccl::transport {

// A send or a receive; for a receive `from` is unused, for a send `into`.
struct LoopbackOperation {
  Progress state = Progress::kPending;
  bool is_send = false;
  int peer = -1;
  uint64_t tag = 0;
  ConstBytes from;
  Bytes into;
};

class LoopbackHub {
 public:
  // A message on its way: of a send under way, or, once its sender has gone, the bytes it left
  // behind.
  struct Message {
    LoopbackOperation* send = nullptr;
    std::vector<std::byte> left_behind;
  };
  struct Pair {
    int sender;
    Message message;
    LoopbackOperation* recv;
  };
  enum class State : uint8_t { kAwaited, kHere, kGone, kAborted };
  struct Rank {
    State state = State::kAwaited;
    std::string reason;  // why it aborted
    TicketTable<LoopbackOperation> operations;
    RouteMap<Message> early;              // messages to this rank, by sender
    RouteMap<LoopbackOperation*> posted;  // receives of this rank, by sender
    std::deque<Pair> ready;               // matched, to be copied by this rank (the receiver)
    int copying = 0;    // pairs that read or write this rank's buffers without the lock
    bool news = false;  // something of this rank ended since its last progress()
    bool armed = false;
    std::optional<PeerFailure> failure;
    Fd event;
  };

  explicit LoopbackHub(int count);

  [[nodiscard]] Rank& at(int rank) { return ranks_[static_cast<size_t>(rank)]; }
  [[nodiscard]] int ranks() const noexcept { return static_cast<int>(ranks_.size()); }

  // All with the lock held.
  void wake(Rank& rank) noexcept;
  void finish(Rank& rank, LoopbackOperation& operation, Progress state) noexcept;
  void fail(Rank& rank, LoopbackOperation& operation, const std::string& reason,
            bool misfit = false);
  void post_send(int rank, LoopbackOperation& send);
  void post_recv(int rank, LoopbackOperation& recv);
  // Why operations with `peer` are hopeless, or nothing.
  [[nodiscard]] std::optional<std::string> why_gone(int peer);

  // Takes the lock: copies one pair that is ready for `rank`; false if there was none.
  bool copy_one(int rank);
  // Takes the lock: ends all that `rank` has under way with everybody, and tells them.
  void leave(int rank, State how, const std::string& reason);

  std::mutex mutex;
  std::condition_variable copied;

 private:
  void hand_over_sends(int rank);
  void drop_operations(int rank);
  void fail_peers_of(int rank);

  std::deque<Rank> ranks_;  // a Rank does not move
};

}  // namespace slimccl::transport
