// Frames through rings. All copying is done by this rank's own progress(), so a failed operation's
// buffer is free at once, whatever the peer is doing.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/handle.h"
#include "transport/matching.h"
#include "transport/shm/ring.h"
#include "transport/shm/segment.h"
#include "transport/tickets.h"
#include "transport/transport.h"

namespace slimccl::transport::shm {

// What connecting found out about a peer.
struct PeerLink {
  int rank;
  int pid;
  Segment segment;  // theirs: our outbound ring is in it
  Bell bell;
  Life life;
  uint64_t ring_in_theirs;
  uint64_t ring_in_ours;
};

class ShmTransport final : public Transport {
 public:
  ShmTransport(int rank, Segment segment, Bell bell, std::vector<PeerLink> links);
  ~ShmTransport() override;

  const Traits& traits() const noexcept override;
  Ticket send(int peer, uint64_t tag, ConstBytes data) override;
  Ticket recv(int peer, uint64_t tag, Bytes into) override;
  Progress poll(Ticket ticket) noexcept override { return operations_.poll(ticket); }
  bool progress() noexcept override;
  const std::optional<PeerFailure>& failure() const noexcept override { return failure_; }
  bool arm() noexcept override;
  int wait_fd() const noexcept override { return epoll_.get(); }
  // A send is done when it lies in the receiver's ring, which outlives this process.
  bool flushed() noexcept override { return true; }
  void abort(const std::string& reason) noexcept override;

 private:
  struct Operation {
    Progress state = Progress::kPending;
    int peer = -1;
    uint64_t tag = 0;
    ConstBytes from;
    Bytes into;
  };
  // A message that has arrived whole before its receive was posted.
  struct Early {
    std::unique_ptr<std::byte[]> data;
    uint64_t bytes;
  };
  // The message that is arriving. `to` null: its bytes are thrown away.
  struct Incoming {
    uint64_t tag = 0, bytes = 0, arrived = 0;
    bool active = false;
    Operation* recv = nullptr;
    std::unique_ptr<std::byte[]> heap;
    std::byte* to = nullptr;
  };
  struct Peer {
    Peer(PeerLink found, const Segment& ours);
    PeerLink link;
    RingWriter out;
    RingReader in;
    std::deque<Operation*> sends;
    uint64_t sent = 0;    // bytes of sends.front()
    bool framed = false;  // its header is written
    Incoming incoming;
    std::string leaving;  // why nothing more will be written; what is in the ring is still read
    bool gone = false;
  };

  [[nodiscard]] Peer& peer_of(int rank);
  void wake(Peer& peer) noexcept;
  bool transmit(Peer& peer) noexcept;
  void publish(Peer& peer) noexcept;
  bool receive(Peer& peer) noexcept;
  void begin_message(Peer& peer, const FrameHeader& frame) noexcept;
  bool adopt_arriving(Peer& peer, Operation& recv);
  void end_message(Peer& peer) noexcept;
  void take_early(Operation& recv, const Early& early);
  void fail(Operation& operation, const std::string& reason, bool misfit = false) noexcept;
  void fail_size(Operation& recv, uint64_t sent) noexcept;
  void look_for_departure(Peer& peer) noexcept;
  void declare_gone(Peer& peer) noexcept;
  void look_at_events() noexcept;
  void say_farewell(OwnerState state) noexcept;

  const int rank_;
  const Segment segment_;
  const Bell bell_;
  Fd epoll_;  // the bell and the peers' pidfds
  std::map<int, Peer> peers_;
  TicketTable<Operation> operations_;
  RouteMap<Operation*> posted_;
  RouteMap<Early> early_;
  std::optional<PeerFailure> failure_;
  bool armed_ = false;
  bool aborted_ = false;
  bool news_ = false;  // an operation ended outside progress()
  uint32_t idle_ = 0;
};

}  // namespace slimccl::transport::shm
