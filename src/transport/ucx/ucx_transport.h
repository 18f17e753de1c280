// One communicator's channel on a worker. Data travels as whole active messages: eager ones are
// copied into the posted receive (or kept until there is one), large ones by rendezvous where UCX
// does that safely.
//
// Buffers: UCX may read a send's bytes, or write a rendezvous receive's, until it has completed the
// request. So an operation with a dead peer becomes kFailed only when its request has ended, which
// closing the endpoint by force brings about; abort() does the same and waits for it.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "transport/matching.h"
#include "transport/tickets.h"
#include "transport/transport.h"
#include "transport/ucx/control.h"
#include "transport/ucx/worker.h"

namespace slimccl::transport::ucx {

struct PeerLink {
  int rank;
  uint32_t channel;
  std::string address;  // of its worker: bytes
};

class UcxTransport final : public Transport, private Channel {
 public:
  UcxTransport(std::shared_ptr<Worker> worker, int rank);
  ~UcxTransport() override;
  [[nodiscard]] uint32_t channel() const noexcept { return channel_; }
  void add_peer(PeerLink link);

  const Traits& traits() const noexcept override;
  Ticket send(int peer, uint64_t tag, ConstBytes data) override;
  Ticket recv(int peer, uint64_t tag, Bytes into) override;
  Progress poll(Ticket ticket) noexcept override;
  bool progress() noexcept override;
  const std::optional<PeerFailure>& failure() const noexcept override { return failure_; }
  bool arm() noexcept override;
  int wait_fd() const noexcept override { return worker_->fd(); }
  bool flushed() noexcept override;
  void abort(const std::string& reason) noexcept override;

 private:
  struct Operation {
    Progress state = Progress::kPending;
    bool is_send = false;
    bool in_ucx = false;  // UCX holds a request with the buffer
    int peer = -1;
    Header header{};  // UCX reads it until the request ends
    ConstBytes from;
    Bytes into;
    UcxTransport* owner = nullptr;
  };
  struct Early {
    std::unique_ptr<std::byte[]> copy;
    void* kept = nullptr;  // UCX's, to be released or fetched
    bool rendezvous = false;
    uint64_t bytes = 0;
  };
  struct Peer {
    PeerLink link;
    std::shared_ptr<Connection> connection;  // shared with other communicators
    bool greeted = false;                    // it said hello: it wants to hear when we leave
    std::string leaving;                     // why nothing more will come
    bool gone = false;
  };

  bool arrive(const Arrival& arrival) noexcept override;
  void lost(int rank, ucs_status_t status) noexcept override;
  bool arrive_data(const Arrival& arrival) noexcept;
  [[nodiscard]] Peer& peer_of(int rank);
  bool connect(Peer& peer) noexcept;
  void send_control(Peer& peer, Kind kind, uint64_t tag, uint64_t bytes,
                    const std::string& text) noexcept;
  void start_send(Peer& peer, Operation& send) noexcept;
  void start_fetch(Operation& recv, void* descriptor) noexcept;
  void take_early(Operation& recv, Early early) noexcept;
  void release(Early& early) noexcept;
  void end_request(Operation& operation, ucs_status_t status) noexcept;
  void fail(Operation& operation, const std::string& reason, bool misfit = false) noexcept;
  void fail_size(Operation& recv, uint64_t sent) noexcept;
  void declare_gone(Peer& peer) noexcept;
  bool end_requests(std::chrono::milliseconds limit) noexcept;

  const std::shared_ptr<Worker> worker_;
  const int rank_;
  const uint32_t channel_;
  std::map<int, Peer> peers_;
  std::set<int> greeted_before_connect_;
  TicketTable<Operation> operations_;
  RouteMap<Operation*> posted_;
  RouteMap<Early> early_;
  int requests_ = 0;  // with buffers of ours, that UCX has not ended
  Controls controls_;
  std::optional<PeerFailure> failure_;
  bool departures_ = false;  // a peer is leaving and not yet gone
  bool aborted_ = false;
  bool flushing_ = false;
  bool news_ = false;  // something of this channel ended since its last progress()
};

}  // namespace slimccl::transport::ucx
