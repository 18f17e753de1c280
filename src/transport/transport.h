// A way of reaching some peers of one communicator: tagged messages between ranks, with a
// deadline-free, non-blocking interface. One instance per rank and communicator; not thread-safe:
// the engine's thread owns it after construction.
//
// Matching: a receive matches the message of equal (peer, tag). Within one communicator a (sender,
// receiver, tag) triple is used again only after both sides are done with its last use. Sends and
// receives may be posted in any order on both sides; an early message waits (in the transport's
// memory) for its receive and blocks nothing else. Sizes: both sides state the same number of
// bytes; a mismatch fails the receive and says so in failure(). Zero-byte messages are messages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace slimccl::transport {

enum class Progress : uint8_t { kPending, kDone, kFailed };

// Names one send or receive under way; handed out by send/recv, dead once poll has returned kDone
// or kFailed.
using Ticket = uint64_t;

struct Traits {
  std::string_view name;  // "loopback", "shm", "ucx"
  bool crosses_nodes;     // false: peers of the same node only
};

// Which peer can no longer be reached, and why ("killed", "connection reset", "sent 128 bytes where
// 64 were expected").
struct PeerFailure {
  int rank;
  std::string reason;
  // It lives, but sent another size than was expected: the ranks make different calls.
  bool misfit = false;
};

class Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  // Waits (bounded, about a second) until what was sent has left; never throws.
  virtual ~Transport() = default;

  [[nodiscard]] virtual const Traits& traits() const noexcept = 0;

  // Neither blocks. The bytes stay valid and unchanged (send) or untouched by others (recv) until
  // poll says kDone or kFailed. kDone of a send: the bytes may be reused, no more. Throws only for
  // a peer that was never connected.
  virtual Ticket send(int peer, uint64_t tag, ConstBytes data) = 0;
  virtual Ticket recv(int peer, uint64_t tag, Bytes into) = 0;

  // State of one operation. Does not move data: progress() does.
  [[nodiscard]] virtual Progress poll(Ticket ticket) noexcept = 0;

  // Moves what can be moved now; true if anything moved. Notices dead peers.
  virtual bool progress() noexcept = 0;

  // The first failure seen, if any. After it, operations with that peer fail; others may still
  // succeed.
  [[nodiscard]] virtual const std::optional<PeerFailure>& failure() const noexcept = 0;

  // Sleeping: if arm() is true there is nothing to do now, and wait_fd() becomes readable (poll(2),
  // POLLIN) when there may be; if false, call progress() again. wait_fd() may be -1: then poll with
  // short naps.
  [[nodiscard]] virtual bool arm() noexcept = 0;
  [[nodiscard]] virtual int wait_fd() const noexcept = 0;

  // True once everything whose send was kDone has left this process for good: its end would lose
  // nothing. False: ask again after progress(). Nothing may be sent after the first question.
  [[nodiscard]] virtual bool flushed() noexcept = 0;

  // Fails every operation under way (their buffers are free when this returns) and all later ones.
  // Idempotent.
  virtual void abort(const std::string& reason) noexcept = 0;
};

}  // namespace slimccl::transport
